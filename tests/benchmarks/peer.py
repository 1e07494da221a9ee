"""Beside SeQUeNCe 0.8.5, on the same work: delivered pairs per second of wall time.

Two routers with a midpoint station, 500 m of fibre to either side at 0.2 dB/km, detectors of 0.9
without dark counts, memories that can be excited 200,000 times a second and do not decay, raw
fidelity 0.95, four memories a node; whatever is delivered is freed at once. Each side is run the
way its users run it: SeQUeNCe as a `RouterNetTopo` with a `RequestApp`, qstack as a network
file on a VirtualNetwork with a scripted user, all layers of both nodes and of the station.
Imports and building are not counted; the best of three turns is taken of each side.

What is compared, and where the two differ:

- **Double click** is Barrett-Kok on both sides: two rounds, a spin flip in between, success
  ``eta**2 / 2`` with eta the efficiency of an arm. SeQUeNCe negotiates each round between the
  routers by messages, and takes the fidelity 0.95 as given; qstack's is a visibility of 0.9, so
  that ``(1 + V) / 2`` is 0.95, and its cycle holds both rounds (10 us).
- **Single herald** is what SeQUeNCe calls `single_heralded`: in spite of the name *both* photons
  must be detected, in one round, and half of those coincidences herald: ``eta**2 / 2`` again,
  Bell-diagonal states. The same law in one round is qstack's polarisation measurement, and the
  target is judged with it. A link that heralds by a single photon, SeQUeNCe has none; qstack's
  single click at the bright population that gives 0.95 is printed beside it, for information: its
  success probability is another one.
- **Success 1e-4**: the same double click with emitters of such an efficiency that
  ``eta**2 / 2 = 1e-4``. SeQUeNCe simulates each attempt, qstack draws the first success, which
  has the same distribution. Few pairs can be waited for on SeQUeNCe's side: with n of them the
  figure is uncertain by a part of ``1 / sqrt(n)``.
- **Chains**: 3, 5 and 9 routers in a row, double click on each link, perfect swaps. SeQUeNCe swaps
  by its rules along the reservation; qstack asks for pairs of any fidelity between the ends, and
  the time in which its circuit is installed counts.
- Not the same: SeQUeNCe has a reservation before (not counted here) and loss-free messages
  without acknowledgement; qstack has its reliable wire with keepalives, confirmations of each
  herald at both ends, and expiry.

SeQUeNCe lives in an environment of its own, `build/peer`, made at the first run with whatever
registry pip is set up for; where that fails it is skipped, and the reason is said.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import attrs

from qstack.config import link_parameters, load
from qstack.machine import record
from qstack.sim.from_file import world_parameters
from qstack.sim.network import VirtualNetwork
from qstack.testing import Party, terms
from qstack.units import MILLISECOND, SECOND
from tests.benchmarks.table import Figure

RELEASE = "sequence==0.8.5"
FOLDER = Path(__file__).resolve().parents[2] / "build" / "peer"
PROGRAM = Path(__file__).with_name("peer_program.py")

DOUBLE_RATIO, SINGLE_RATIO, RARE_RATIO, CHAIN_RATIO = 25.0, 6.0, 10_000.0, 15.0
RARE = 1e-4
FIDELITY = 0.95
DETECTOR = 0.9
ARM_KM = 0.5
MEMORY_HZ = 200_000
MEMORIES = 4

INSTALL_S, RUN_S = 900.0, 60.0
"""Patience with pip, and with one run of the peer, in wall seconds."""

_LIMIT_NS = 1_000_000 * SECOND
ARM = 10 ** (-0.02 * ARM_KM) * DETECTOR
"""Efficiency of an arm with a perfect emitter."""

RARE_EFFICIENCY = (2 * RARE) ** 0.5 / ARM
"""The emitter's efficiency at which ``(ARM * efficiency)**2 / 2`` is RARE."""


@record
class Work:
    """A scheme in the words of both, how efficient the emitters are, how many routers in a row."""

    peer: str
    own: str
    efficiency: float = 1.0
    routers: int = 2


DOUBLE = Work("barret_kok", "barrett-kok")
SINGLE = Work("single_heralded", "polarisation")
RARE_DOUBLE = Work("barret_kok", "barrett-kok", RARE_EFFICIENCY)
ONE_CLICK = Work("", "single-click")
CHAINS = tuple(Work("barret_kok", "barrett-kok", routers=count) for count in (3, 5, 9))
"""Chains of routers. SeQUeNCe 0.8.5 swaps no Bell-diagonal states, so its single_heralded has no
chains."""


@attrs.define
class Pace:
    """Pairs, and the wall seconds they took; `simulated_s` is for a look at the physics."""

    pairs: int
    wall_s: float
    simulated_s: float

    @property
    def per_s(self) -> float | None:
        """Pairs per wall second; None where there was not one."""
        return self.pairs / self.wall_s if self.pairs else None


# --- the peer -------------------------------------------------------------------------------


def environment(folder: Path = FOLDER) -> Path | str:
    """Return the Python of the peer's environment, made now if need be, or why there is none."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if done.is_file() and done.read_text(encoding="utf-8") == RELEASE:
        return python
    print(f"making an environment with {RELEASE}, about 1 GB ...", file=sys.stderr, flush=True)
    steps = (
        (sys.executable, "-m", "venv", "--clear", str(folder)),
        (str(python), "-m", "pip", "install", "--quiet", RELEASE),
    )
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=INSTALL_S, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else str(error)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    done.write_text(RELEASE, encoding="utf-8")
    return python


def peer_pace(python: Path, work: Work, pairs: int, seed: int = 1) -> Pace | None:
    """Run the work in SeQUeNCe; None where it fails, and the reason on standard error."""
    order = {
        "scheme": work.peer,
        "routers": work.routers,
        "link_m": round(2_000 * ARM_KM),
        "detector": DETECTOR,
        "fidelity": FIDELITY,
        "memory_hz": MEMORY_HZ,
        "efficiency": work.efficiency,
        "memories": MEMORIES,
        "pairs": pairs,
        "limit_s": RUN_S,
        "seed": seed,
    }
    try:
        ended = subprocess.run(
            (str(python), str(PROGRAM), json.dumps(order)),
            check=True,
            timeout=4 * RUN_S,
            capture_output=True,
            text=True,
        )
        told = json.loads(ended.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        print(f"SeQUeNCe, {work.peer}: {error.stderr[-500:]}", file=sys.stderr)
        return None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        print(f"SeQUeNCe, {work.peer}: {error}", file=sys.stderr)
        return None
    return Pace(told["pairs"], told["wall_s"], told["simulated_s"])


# --- ours -----------------------------------------------------------------------------------


def bright_population() -> float:
    """Return the alpha at which a single click, V = 1, has the fidelity that the work asks for.

    ``F = (1 - a) / (1 - a * eta / 2)``, threshold detectors.
    """
    return (1 - FIDELITY) / (1 - FIDELITY * ARM / 2)


def network_text(work: Work) -> str:
    """Return the row of routers of a piece of work as a network file.

    A router in between has an emitter and memories of its own for each side, all of which can be
    joined with those of the other side by perfect gates.
    """
    nodes = ["alice", *(f"r{number}" for number in range(1, work.routers - 1)), "bob"]
    lines = ['name = "peer"', "[world]", 'address = "127.0.0.1:47900"']
    for number, node in enumerate(nodes):
        sides = [peer for peer in (number - 1, number + 1) if 0 <= peer < len(nodes)]
        lines += _router(work, node, [nodes[peer] for peer in sides], 47_910 + 2 * number)
    for number, (one, other) in enumerate(pairwise(nodes)):
        lines += _station(work, f"s{number + 1}", 47_950 + number)
        lines += _link(work, (one, other), f"s{number + 1}", nodes)
    return "\n".join(lines) + "\n"


def _router(work: Work, node: str, peers: list[str], port: int) -> list[str]:
    kind = "sim.trapped-ion" if work.own == "polarisation" else "sim.colour-centre"
    lines = [
        f"[nodes.{node}]",
        'kind = "end"',
        f'address = "127.0.0.1:{port}"',
        f'user = "127.0.0.1:{port + 1}"',
    ]
    for peer in peers:
        lines += [
            f"[nodes.{node}.devices.to-{peer}]",
            'role = "emitter"',
            f'plugin = "{kind}"',
            f"efficiency = {work.efficiency}",
            "lifetime_ps = 0",
            "prepare_ns = 100",
        ]
    first, second = range(MEMORIES), range(MEMORIES, 2 * MEMORIES)
    joined = [[one, other] for one in first for other in second] if len(peers) > 1 else []
    return [
        *lines,
        f"[nodes.{node}.devices.memory]",
        'plugin = "sim.memory"',
        f"communication = {MEMORIES * len(peers)}",
        f"coupled = {joined}",
    ]


def _station(work: Work, station: str, port: int) -> list[str]:
    single = work.own == "single-click"
    return [
        f"[nodes.{station}]",
        'kind = "station"',
        f'address = "127.0.0.1:{port}"',
        f"[nodes.{station}.devices.analyser]",
        'plugin = "sim.analyser"',
        f'measurement = "{work.own}"',
        'detector = "detectors"',
        f"visibility = {1.0 if single else 2 * FIDELITY - 1}",
        f"[nodes.{station}.devices.detectors]",
        'plugin = "sim.threshold"',
        f"efficiency = {DETECTOR}",
    ]


def _link(work: Work, ends: tuple[str, str], station: str, nodes: list[str]) -> list[str]:
    rounds = 2 if work.own == "barrett-kok" else 1
    alpha = {"single-click": bright_population(), "barrett-kok": 0.5}.get(work.own)
    name = "-".join(ends)
    lines = [
        f"[links.{name}]",
        'scheme = "midpoint-bsm"',
        f'station = "{station}"',
        f"modes = {MEMORIES}",
        f"cycle_ns = {rounds * SECOND // MEMORY_HZ}",
    ]
    for node, peer in (ends, ends[::-1]):
        # Memories towards the next router come after those towards the one before.
        later = nodes.index(peer) > nodes.index(node) > 0
        slots = list(range(MEMORIES * later, MEMORIES * (later + 1)))
        lines += [
            f"[links.{name}.arms.{node}]",
            f"km = {ARM_KM}",
            "db_per_km = 0.2",
            f'emitter = "to-{peer}"',
            f"communication = {slots}",
        ]
    setting = [f"[[links.{name}.settings]]", 'id = "only"', "window_ps = 1_000"]
    return lines + setting + ([] if alpha is None else [f"alpha = {alpha}"])


def own_pace(work: Work, pairs: int, seed: int = 1) -> Pace:
    """Run the work in qstack: one request for so many kept pairs, each freed at both ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peer.toml"
        path.write_text(network_text(work), encoding="utf-8")
        file = load(str(path))
    links = [link_parameters(file, link.name) for link in file.links]
    network = VirtualNetwork(links, world_parameters(file), seed)
    heap = network.heap
    alice, bob = (Party(heap, f"user-{node}", node) for node in ("alice", "bob"))
    for user in (alice, bob):
        network.user(user.name, [user.node], user.listen)
    heap.run(100 * MILLISECOND)
    bob.accept()
    alice.keep(terms("bob", pairs))
    started = heap.now
    begun = time.perf_counter()
    heap.run(_LIMIT_NS, stop=lambda: alice.finished() and bob.finished(), max_steps=1_000_000_000)
    wall_s = time.perf_counter() - begun
    return Pace(len(bob.pairs), wall_s, (heap.now - started) / SECOND)


# --- figures --------------------------------------------------------------------------------


@attrs.define
class Asked:
    """How many pairs of each side, of the rare ones, over chains, and how often all of it."""

    own: int = 3_000
    peer: int = 1_500
    rare: int = 10
    chain: int = 300
    rounds: int = 3


def best(paces: Iterable[Pace | None]) -> float | None:
    """Return the best of several rates: that of the run which other work disturbed least."""
    rates = (None if pace is None else pace.per_s for pace in paces)
    return max((rate for rate in rates if rate is not None), default=None)


def figures(asked: Asked | None = None) -> Iterator[Figure]:
    """Measure both sides in turns; without the peer, our own side alone."""
    asked = asked or Asked()
    python = environment()
    if isinstance(python, str):
        print(f"SeQUeNCe is skipped, it cannot be had: {python}", file=sys.stderr)
    cases = [
        ("double click", DOUBLE, asked.peer, DOUBLE_RATIO),
        ("single herald", SINGLE, asked.peer, SINGLE_RATIO),
        ("double click, p = 1e-4", RARE_DOUBLE, asked.rare, RARE_RATIO),
    ]
    cases += [
        (f"chain of {work.routers} routers", work, asked.chain, CHAIN_RATIO) for work in CHAINS
    ]
    for name, work, wanted, target in cases:
        mine, theirs = [], []
        for turn in range(asked.rounds):
            own_pairs = asked.own if work.routers == 2 else asked.chain
            mine.append(own_pace(work, own_pairs, turn + 1))
            # Minutes for a handful of pairs: those are waited for once.
            if isinstance(python, Path) and not (turn and work is RARE_DOUBLE):
                theirs.append(peer_pace(python, work, wanted, turn + 1))
        yield Figure(f"qstack, {name} ({work.own})", best(mine), "pairs/s")
        if isinstance(python, Path):
            yield from beside(name, best(mine), best(theirs), target)
    own = best(own_pace(ONE_CLICK, asked.own, turn + 1) for turn in range(asked.rounds))
    yield Figure("qstack, one click heralds (no peer has it)", own, "pairs/s")


def beside(name: str, own: float | None, theirs: float | None, target: float) -> Iterator[Figure]:
    """Yield the peer's figure and the ratio to it; without values where it failed."""
    yield Figure(f"SeQUeNCe, {name}", theirs, "pairs/s")
    ratio = own / theirs if own and theirs else None
    yield Figure(f"qstack to SeQUeNCe, {name}", ratio, "times", target, at_most=False)
