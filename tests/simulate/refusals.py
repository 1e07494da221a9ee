"""Admission by brute force: random networks of three to six nodes, every simple path looked at.

python -m tests.simulate.refusals --seeds 300     every core, a summary, exit code 1 for a failure
python -m tests.simulate.refusals --seed 7        one network, request by request

Users ask one after another until networks are full; some cancel. Each request is judged by what the
test itself knows: the links as they were made, and its own books of what was given away. Nothing of
the network layer is asked but which way a circuit took and what it reserved of each link.

What a path can carry is known here exactly but for two things, of which routes only know one side;
between the two either answer counts as right, and :class:`Tally` says how often that was so.

- Rate. A route reckons link by link, as if what it has so far came at random: of three links and
  more that is too little, of four equal ones by 7 % (see the limits). It promises what the chosen
  way gives at once, but chooses by what it reckoned. So what some path gives reckoned link by link
  must be granted, and what none gives at once must be refused.
- Fidelity, where memories fade. A route takes all waits to be for the slower side. What some path
  gives even so must be granted, what none gives without any wait must be refused. In every second
  network nothing fades, and both are the same.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations, product
from random import Random
from typing import Any

import attrs

from qstack.errors import ErrorCode
from qstack.messages.application import Cancel
from qstack.network.head_end import Head
from qstack.network.places import Place
from qstack.physical.service import LinkParameters
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.testing import Party, terms
from qstack.testing.routes import IDLE_NS, RouteNetwork
from qstack.testing.routes_lab import Edges, RouteLab
from qstack.testing.scenario import TIMING
from qstack.units import MILLISECOND, SECOND, Duration, LinkName, NodeName

REQUESTS = 28
WINDOW_NS: Duration = 600 * SECOND
FEWEST = 50
"""Requests are for so many pairs at least in so long, of which a fifth of a second is looked at:
none is complete by then."""
WIRE_NS: Duration = 20_000
KNOWN_NS: Duration = 3 * MILLISECOND
"""Until all nodes know what is reserved."""
CLOSE = 1e-6
"""Routes know what is reserved of a link to a millionth of its time."""


# --- networks -------------------------------------------------------------------------------


@attrs.define
class Mixed(RouteLab):
    """Every link has two working points of its own: a fine one and a fast one."""

    alphas: Mapping[LinkName, tuple[float, float]] = attrs.field(factory=dict)

    def links(self) -> tuple[LinkParameters, ...]:
        """All links, as the stacks believe them to be."""
        found = []
        for link in RouteLab.links(self):
            points = [attrs.evolve(self, alpha=alpha) for alpha in self.alphas[link.name]]
            settings: tuple[Any, ...] = tuple(
                RouteLab.links(point)[0].settings[0] for point in points
            )
            ends = tuple(end.node for end in link.ends)
            values = [
                tuple((node, (("alpha", alpha),)) for node in ends)
                for alpha in self.alphas[link.name]
            ]
            whole: Any = link
            settings = tuple(
                attrs.evolve(setting, values=each)
                for setting, each in zip(settings, values, strict=True)
            )
            found.append(attrs.evolve(whole, settings=settings))
        return tuple(found)


def drawn_edges(draw: Random) -> Edges:
    """A tree over three to six nodes, and at least one edge more."""
    count = draw.choice((3, 4, 5, 5, 6, 6))
    names = [f"n{place}" for place in range(1, count + 1)]
    edges = {(draw.choice(names[:place]), names[place]) for place in range(1, count)}
    others = [two for two in combinations(names, 2) if two not in edges]
    more = draw.randint(1, min(4, len(others)))
    return tuple(sorted(edges | set(draw.sample(others, more))))


def drawn_lab(draw: Random) -> Mixed:
    """A network with one to three qubits at each end of each link."""
    edges = drawn_edges(draw)
    points = {
        f"{one}-{other}": (draw.uniform(0.02, 0.06), draw.uniform(0.08, 0.2))
        for one, other in edges
    }
    return Mixed(
        edges,
        qubits=draw.choice((2, 2, 3, 8)),
        t2_ns=draw.choice((0, 20 * SECOND)),
        efficiency=0.002,
        alphas=points,
    )


# --- what the test knows ----------------------------------------------------------------------


@attrs.frozen
class Point:
    """A link at a working point: pairs per second with all of its time, and their fidelity."""

    link: LinkName
    full_hz: float
    fidelity: float


def point_of(lab: Mixed, link: LinkName, alpha: float) -> Point:
    """By the closed form of one click in either of two detectors (physics notes, 1.4)."""
    eta = lab.efficiency
    both = alpha**2 * (eta**2 + 2 * eta * (1 - eta))
    single = 2 * alpha * (1 - alpha) * eta
    rate_hz = lab.qubits * (both + single) * SECOND / lab.cycle_ns
    return Point(link, rate_hz, single / (both + single))


def latest(rates_hz: Sequence[float]) -> float:
    """One over the mean of the latest of exponential times: inclusion and exclusion."""
    some = [(0.0, -1)]
    for rate_hz in rates_hz:
        some += [(total + rate_hz, -sign) for total, sign in some]
    mean = sum(sign / total for total, sign in some[1:])
    return 1 / mean


def later(one: float, other: float) -> float:
    """One over the mean of the later of two exponential times."""
    return 1 / (1 / one + 1 / other - 1 / (one + other))


@attrs.frozen
class Way:
    """A simple path at working points, and what of a request it can carry now.

    `rates_hz`: reckoned link by link, and at once. `fidelities`: with waits for the slower side,
    and without any wait. `room`: whether each link of it has a qubit that no circuit counts on.
    """

    links: tuple[LinkName, ...]
    rates_hz: tuple[float, float]
    fidelities: tuple[float, float]
    room: bool


@attrs.define
class Granted:
    """A circuit by the books: what it has of each link, and the requests on it."""

    head: NodeName
    tail: NodeName
    fidelity_min: float
    early: bool
    shares: dict[LinkName, float]
    needs: dict[int, float]

    @property
    def need_hz(self) -> float:
        """Of all its requests together."""
        return sum(self.needs.values())


class Books:
    """The network as the test knows it, and what of it has been given away."""

    def __init__(self, lab: Mixed) -> None:
        self.lab = lab
        self.circuits: list[Granted] = []
        self._points = {
            link: [point_of(lab, link, alpha) for alpha in alphas]
            for link, alphas in lab.alphas.items()
        }
        self._beside: dict[NodeName, list[tuple[NodeName, LinkName]]] = {n: [] for n in lab.nodes}
        for one, other in lab.edges:
            self._beside[one].append((other, f"{one}-{other}"))
            self._beside[other].append((one, f"{one}-{other}"))

    def reserved(self, link: LinkName, without: Granted | None = None) -> float:
        """What circuits have of a link's time."""
        some = (each for each in self.circuits if each is not without)
        return sum(each.shares.get(link, 0.0) for each in some)

    def paths(self, head: NodeName, tail: NodeName) -> Iterator[tuple[LinkName, ...]]:
        """All simple paths."""
        open_paths: list[tuple[tuple[NodeName, ...], tuple[LinkName, ...]]] = [((head,), ())]
        while open_paths:
            nodes, links = open_paths.pop()
            if nodes[-1] == tail:
                yield links
                continue
            for other, link in self._beside[nodes[-1]]:
                if other not in nodes:
                    open_paths.append(((*nodes, other), (*links, link)))

    def ways(self, head: NodeName, tail: NodeName, *, empty: bool = False) -> list[Way]:
        """All simple paths at all working points; `empty`: as if nothing were given away."""
        return [
            self._way(points, empty=empty)
            for links in self.paths(head, tail)
            for points in product(*(self._points[link] for link in links))
            if empty or all(self.reserved(link) < 1 - CLOSE for link in links)
        ]

    def _way(self, points: tuple[Point, ...], *, empty: bool) -> Way:
        links = tuple(each.link for each in points)
        free = [1.0 if empty else 1 - self.reserved(link) for link in links]
        rates = [each.full_hz * part for each, part in zip(points, free, strict=True)]
        # Tracks take the whole way, and a qubit that is free a turn of messages with its station.
        latency_ns = WIRE_NS * len(points) if len(points) > 1 else 0
        pause_s = (latency_ns + 2 * WIRE_NS) / SECOND / self.lab.qubits
        reckoned, at_once = (
            1 / (1 / each + pause_s) for each in (reduce(later, rates), latest(rates))
        )
        held = Counter(link for each in self.circuits for link in each.shares)
        room = empty or all(held[link] < self.lab.qubits for link in links)
        pure = self._fidelity(points, 1.0)
        fidelities = self._fidelity(points, self._faded(rates)), pure
        return Way(links, (reckoned, max(reckoned, at_once)), fidelities, room)

    def _fidelity(self, points: tuple[Point, ...], phase: float) -> float:
        """Of swapped pairs whose errors are X and Y alike: XX and YY are F, ZZ is 2 F - 1."""
        across = math.prod(each.fidelity for each in points)
        along = math.prod(2 * each.fidelity - 1 for each in points)
        return (1 + 2 * across * phase + along) / 4

    def _faded(self, rates: list[float]) -> float:
        """What is left of XX and YY if both halves wait for the slower side at every swap.

        Messages age both halves of each link by a turn, and six halves of the longest way.
        """
        t2_s = self.lab.t2_ns / SECOND
        if not t2_s:
            return 1.0
        ages_s = (2 * len(rates) * 3 + 6 * (len(rates) + 2)) * WIRE_NS / SECOND
        phase, so_far = math.exp(-ages_s / t2_s), rates[0]
        for rate in rates[1:]:
            slower = min(so_far, rate)
            phase *= (slower / (slower + 1 / t2_s)) ** 2
            so_far = later(so_far, rate)
        return phase

    def grows(self, circuit: Granted, need_hz: float) -> bool:
        """Whether all links of a circuit have the time for so many pairs per second more."""
        factor = 1 + need_hz / circuit.need_hz
        return all(
            self.reserved(link, circuit) + share * factor <= 1
            for link, share in circuit.shares.items()
        )


@attrs.frozen
class Request:
    """What somebody asks for; `early` ones have a circuit for themselves, neighbours too."""

    head: NodeName
    tail: NodeName
    number: int
    fidelity_min: float
    early: bool

    @property
    def need_hz(self) -> float:
        """Pairs per second."""
        return self.number * SECOND / WINDOW_NS

    def like(self, circuit: Granted) -> bool:
        """Whether it may share a circuit."""
        mine = self.head, self.tail, self.fidelity_min
        theirs = circuit.head, circuit.tail, circuit.fidelity_min
        return mine == theirs and not self.early and not circuit.early


# --- one network ------------------------------------------------------------------------------


@attrs.define
class Tally:
    """What came of a network, or of many: `unsure`: either answer would have been right."""

    granted: int = 0
    grown: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    cancelled: int = 0
    unsure: int = 0
    wrong: list[str] = attrs.field(factory=list)

    def add(self, other: Tally) -> None:
        """Count another one too."""
        self.granted += other.granted
        self.grown += other.grown
        self.refused += other.refused
        self.cancelled += other.cancelled
        self.unsure += other.unsure
        self.wrong += other.wrong

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {code}" for code, count in sorted(self.refused.items()))
        asked = self.granted + sum(self.refused.values())
        return (
            f"{asked} requests: {self.granted} granted, {self.grown} of them on a circuit that "
            f"was there; refused {refused or 'none'}; {self.cancelled} cancelled; {self.unsure} "
            f"where either is right; {len(self.wrong)} wrong"
        )


class Run:
    """One network and its users."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = Random(seed)
        self.lab = drawn_lab(self.draw)
        self.books = Books(self.lab)
        self.levels = (0.0, self.draw.uniform(0.6, 0.8), self.draw.uniform(0.75, 0.95))
        self.tally = Tally()
        self.told: list[str] = []
        around = Surroundings(wire=Wire(WIRE_NS), timing=TIMING)
        self.net = RouteNetwork(self.lab.links(), self.lab.world(), seed, around)
        self.users = {n: Party(self.net.heap, f"user-{n}", n) for n in self.lab.nodes}
        for user in self.users.values():
            self.net.user(user.name, [user.node], user.listen)
        self._rest(10 * MILLISECOND)
        for user in self.users.values():
            user.accept()
        self._rest(5 * MILLISECOND)

    def _rest(self, duration_ns: Duration) -> None:
        self.net.heap.run(self.net.heap.now + duration_ns)

    def go(self) -> Tally:
        """Ask for more and more; stop at the first answer that is wrong: the books are then."""
        for _ in range(REQUESTS):
            if self.books.circuits and self.draw.random() < 0.2:
                self._cancel()
            if not self.tally.wrong:
                self._ask(self._drawn())
            if self.tally.wrong:
                break
        return self.tally

    def _drawn(self) -> Request:
        """Often as much as is just there, or just not."""
        draw, nodes = self.draw, self.lab.nodes
        liked = [each for each in self.books.circuits if not each.early]
        if liked and draw.random() < 0.15:
            like = draw.choice(liked)
            part = draw.uniform(0.1, 0.8)
            number = max(FEWEST, round(part * like.need_hz * WINDOW_NS / SECOND))
            return Request(like.head, like.tail, number, like.fidelity_min, early=False)
        head, tail = draw.sample(nodes, 2)
        fidelity_min = draw.choice(self.levels)
        fit = [w for w in self.books.ways(head, tail) if w.fidelities[0] >= fidelity_min and w.room]
        fit = fit or self.books.ways(head, tail, empty=True)
        best = max(way.rates_hz[1] for way in fit)
        parts = (draw.uniform(0.1, 0.5), draw.uniform(0.1, 0.5), draw.uniform(0.5, 0.95))
        part = draw.choice((*parts, 0.99, 1.01, draw.uniform(1.01, 1.3)))
        number = max(FEWEST, round(part * best * WINDOW_NS / SECOND))
        early = tail in self.lab.neighbours(head) or draw.random() < 0.5
        return Request(head, tail, number, fidelity_min, early)

    def _ask(self, asked: Request) -> None:
        books, need_hz = self.books, asked.need_hz
        ways = books.ways(asked.head, asked.tail)
        carry = [
            [
                way
                for way in ways
                if way.room and way.rates_hz[side] >= need_hz
                if way.fidelities[side] >= asked.fidelity_min
            ]
            for side in (0, 1)
        ]
        grow = [each for each in books.circuits if asked.like(each) and books.grows(each, need_hz)]
        sure, possible = bool(grow or carry[0]), bool(grow or carry[1])
        self.tally.unsure += possible and not sure
        user = self.users[asked.head]
        wanted = terms(
            asked.tail, asked.number, fidelity_min=asked.fidelity_min, max_time_ns=WINDOW_NS
        )
        reference = user.keep(wanted, early=asked.early)
        self._rest(KNOWN_NS)
        ended = [each for each in user.ended if each.request == user.created[reference]]
        said = ended[0].reason if ended else "granted"
        self.told.append(f"{asked}: sure {sure}, possible {possible}; {said}")
        if ended:
            self.tally.refused[ErrorCode(ended[0].code).name] += 1
            if sure:
                self._wrong(f"refused, but {grow or carry[0][0]} would do: {said}")
            return
        self.tally.granted += 1
        place = self._place(asked.head, user.created[reference])
        if place is None:
            self._wrong("neither refused nor on a circuit")
        elif not possible:
            self._wrong(f"granted on {place.install.legs}, but nothing carries it")
        else:
            self._enter(asked, reference, place, carry[1], grow)

    def _place(self, head: NodeName, request: Any) -> Place | None:
        for member in self.net.host(head).network.demand.circuits.members:
            if isinstance(member.part, Head) and request in member.part.orders:
                place: Place = member.place
                return place
        return None

    def _enter(
        self, asked: Request, number: int, place: Place, carry: list[Way], grow: list[Granted]
    ) -> None:
        """Write down what was granted; it must be on a way that does, for what that way takes."""
        shares = {leg.link: leg.share for leg in place.install.legs}
        for circuit in grow:
            factor = 1 + asked.need_hz / circuit.need_hz
            grown = {link: share * factor for link, share in circuit.shares.items()}
            if alike(shares, grown):
                circuit.shares = grown
                circuit.needs[number] = asked.need_hz
                self.tally.grown += 1
                self._compare()
                return
        for way in carry:
            if self._pays(asked, way, shares):
                needs = {number: asked.need_hz}
                self.books.circuits.append(
                    Granted(asked.head, asked.tail, asked.fidelity_min, asked.early, shares, needs)
                )
                self._compare()
                return
        self._wrong(f"granted with {shares}, of which no way makes what is asked for")

    def _pays(self, asked: Request, way: Way, shares: Mapping[LinkName, float]) -> bool:
        """Whether this is what a way takes of its links; more if only a cutoff makes it pure."""
        if shares.keys() != set(way.links):
            return False
        free = {link: 1 - self.books.reserved(link) for link in way.links}
        part = asked.need_hz / way.rates_hz[1]
        most = part if way.fidelities[0] >= asked.fidelity_min else 1.0
        return all(
            part * free[link] * (1 - slack) - CLOSE
            <= share
            <= most * free[link] * (1 + slack) + CLOSE
            for slack in (CLOSE / min(free.values()),)
            for link, share in shares.items()
        )

    def _cancel(self) -> None:
        circuit = self.draw.choice(self.books.circuits)
        number = self.draw.choice(list(circuit.needs))
        user = self.users[circuit.head]
        user.say(Cancel(user.reference(), user.created[number]))
        self._rest(IDLE_NS + KNOWN_NS)
        whole = circuit.need_hz
        circuit.shares = {
            link: share * (1 - circuit.needs[number] / whole)
            for link, share in circuit.shares.items()
        }
        del circuit.needs[number]
        if not circuit.needs:
            self.books.circuits.remove(circuit)
        self.tally.cancelled += 1
        self.told.append(f"{circuit.head} cancels what {circuit.tail} was to share")
        self._compare()

    def _compare(self) -> None:
        """Both ends of each link must have given away what the books say."""
        for link, (one, other) in zip(self.lab.alphas, self.lab.edges, strict=True):
            for node in (one, other):
                held = self.net.host(node).network.reservations.share(link)
                if abs(held - self.books.reserved(link)) > CLOSE:
                    books = self.books.reserved(link)
                    self._wrong(f"{node} gave away {held:.6f} of {link}, not {books:.6f}")

    def _wrong(self, what: str) -> None:
        self.tally.wrong.append(f"seed {self.seed}: {self.told[-1]}: {what}")


def alike(some: Mapping[LinkName, float], others: Mapping[LinkName, float]) -> bool:
    """Whether two say the same of the same links."""
    return some.keys() == others.keys() and all(
        abs(share - others[link]) <= CLOSE for link, share in some.items()
    )


def run_seed(seed: int) -> Tally:
    """Run one network; at the top of the module, so that another process can be told of it."""
    return Run(seed).go()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate.refusals", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", type=int, metavar="N", help="run so many seeds")
    what.add_argument("--seed", type=int, metavar="S", help="run this seed and tell")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args(arguments)
    total = Tally()
    if given.seed is not None:
        run = Run(given.seed)
        total = run.go()
        print(run.lab, *run.told, *total.wrong, sep="\n")
    else:
        with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
            for each in pool.imap_unordered(run_seed, range(given.seeds), 5):
                print(*each.wrong, sep="\n", end="\n" if each.wrong else "", flush=True)
                total.add(each)
    print(total)
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
