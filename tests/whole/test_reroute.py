"""What happens to routes, circuits and requests when a node or a station dies, and by when.

All instants are those of virtual time. A neighbour is lost 8 keepalive intervals after its last
word, which was on its way when it died; what routes tell of it then crosses the network within
two diameters, each hop a message of WIRE_NS.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from qstack.messages.application import Cancel, PairReady
from qstack.messages.common import PairId
from qstack.network.routing import Query, route
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.testing.routes_lab import SHAPES, RouteLab
from qstack.testing.scenario import TIMING
from qstack.units import MICROSECOND, MILLISECOND, SECOND, Instant
from tests.whole.many_rig import Many

WIRE_NS = 20 * MICROSECOND
LOST_NS = WIRE_NS + 8 * TIMING.keepalive_ns
DIAMETERS = {"ring6": 3, "grid9": 4, "chain5": 4}
OPPOSITE = {"ring6": ("n1", "n4"), "grid9": ("n1", "n9"), "chain5": ("n1", "n5")}


def news_ns(shape: str) -> int:
    """Two diameters of the network before something died."""
    return 2 * DIAMETERS[shape] * WIRE_NS


class Running(Many):
    """A network of which parties die."""

    def __init__(self, shape: str, *, efficiency: float = 0.3) -> None:
        self.shape = shape
        self.dead: set[str] = set()
        lab = RouteLab(SHAPES[shape], qubits=2, efficiency=efficiency)
        super().__init__(lab, Surroundings(wire=Wire(WIRE_NS), timing=TIMING))

    def until(self, done: Callable[[], bool], limit_ns: int) -> Instant:
        """Run until this is so; return when it was."""
        end = self.now + limit_ns
        while not done():
            assert self.now < end
            self.rest(5 * MICROSECOND)
        return self.now

    def graph(self, node: str) -> Any:
        return self.net.host(node).network.demand.graph

    def way(self, node: str, remote: str) -> tuple[str, ...]:
        found = route(self.graph(node), Query(node, remote))
        return () if found is None else found.nodes

    def known(self, node: str) -> set[str]:
        """The links by which routes of this node may go."""
        return {choice.link for choices in self.graph(node).choices.values() for choice in choices}

    def kill(self, name: str) -> Instant:
        self.net.crash(name)
        self.dead.add(name)
        return self.now

    def alive(self) -> list[str]:
        return [node for node in self.users if node not in self.dead]

    # --- what users were told of one request ------------------------------------------------

    def pairs(self, node: str, request: Any) -> set[PairId]:
        user = self.users[node]
        void = {each.pair for each in user.expired}
        told = (pair for _, pair in user.pairs if type(pair) is PairReady)
        return {p.info.pair for p in told if p.request == request} - void

    def done(self, node: str, request: Any) -> bool:
        return any(each.request == request for each in self.users[node].done)


def links_of(shape: str, dead: str) -> set[str]:
    """The links that die with a node, or with the station s-a-b."""
    names = {f"{min(edge)}-{max(edge)}" for edge in SHAPES[shape]}
    if dead.startswith("s-"):
        return {dead[2:]}
    return {name for name in names if dead in name.split("-")}


def victim(running: Running, kind: str) -> str:
    """The second node of the way that would be chosen, or the station of its second link."""
    way = running.way(*OPPOSITE[running.shape])
    return way[1] if kind == "repeater" else f"s-{'-'.join(sorted(way[1:3]))}"


CASES = [(shape, kind) for shape in ("ring6", "grid9") for kind in ("repeater", "station")]


@pytest.mark.parametrize(("shape", "kind"), CASES)
def test_new_circuits_go_around_after_eight_intervals_and_two_diameters(
    shape: str, kind: str
) -> None:
    running = Running(shape)
    one, other = OPPOSITE[shape]
    dead = victim(running, kind)
    died, gone = running.kill(dead), links_of(shape, dead)
    running.rest(7 * TIMING.keepalive_ns)
    assert all(gone <= running.known(node) for node in running.alive())
    running.rest(died + LOST_NS + news_ns(shape) - running.now)
    for node in running.alive():
        assert not gone & running.known(node)
        assert running.known(node)
    request = running.ask(one, other, 3)
    running.until(lambda: running.done(one, request), 100 * MILLISECOND)
    (path,) = running.paths(one)
    assert dead not in path
    assert not gone & {"-".join(sorted(two)) for two in pairwise(path)}
    running.rest(MILLISECOND)
    assert len(running.pairs(one, request)) == 3
    assert running.pairs(one, request) == running.pairs(other, request)


@pytest.mark.parametrize("shape", ["ring6", "grid9"])
def test_circuits_over_a_lost_node_end_once_or_are_made_anew_and_no_end_has_more_pairs(
    shape: str,
) -> None:
    running = Running(shape)
    one, other = OPPOSITE[shape]
    dead = victim(running, "repeater")
    served = running.ask(one, other, 100_000)
    running.until(lambda: len(running.pairs(one, served)) >= 20, 500 * MILLISECOND)
    fresh = running.ask(one, other, 4, fidelity_min=0.5)
    assert all(dead in path for path in running.paths(one))
    died = running.kill(dead)
    bound = died + LOST_NS + news_ns(shape)
    ended = running.until(lambda: bool(running.endings(one, served)), 20 * MILLISECOND)
    assert died < ended <= bound
    assert not running.pairs(one, fresh)
    running.rest(bound - running.now)
    # Whoever was asked for is on its way again: not one pair of it had been delivered.
    assert all(dead not in path for path in running.paths(one))
    assert running.paths(one)
    running.until(lambda: running.done(one, fresh), 200 * MILLISECOND)
    running.rest(20 * MILLISECOND)
    (end,) = running.endings(one, served)
    assert dead in end.reason
    # Those of the last moments, of which the tail-end had not told, are void.
    assert end.delivered == len(running.pairs(one, served)) >= 8
    (far_end,) = running.endings(other, served)
    assert dead in far_end.reason
    assert len(running.endings(one, fresh)) == 1
    for request in (served, fresh):
        assert running.pairs(one, request) == running.pairs(other, request)
    assert len(running.pairs(one, fresh)) == 4


@pytest.mark.parametrize("shape", ["ring6", "grid9"])
def test_a_restart_is_noticed_at_its_greeting_and_ends_circuits_without_any_silence(
    shape: str,
) -> None:
    running = Running(shape)
    one, other = OPPOSITE[shape]
    dead = victim(running, "repeater")
    served = running.ask(one, other, 100_000)
    running.until(lambda: len(running.pairs(one, served)) >= 20, 500 * MILLISECOND)
    died = running.kill(dead)
    running.net.start(dead)
    running.until(lambda: bool(running.endings(one, served)), 20 * MILLISECOND)
    assert running.now <= died + TIMING.hello_interval_ns + news_ns(shape)
    running.rest(5 * MILLISECOND)
    assert len(running.endings(one, served)) == len(running.endings(other, served)) == 1
    assert running.pairs(one, served) == running.pairs(other, served)


# --- a station dies ------------------------------------------------------------------------


def on_circuit(running: Running) -> tuple[str, str, str]:
    """A request over several links, and the station of one between."""
    return (*OPPOSITE[running.shape], victim(running, "station"))


def on_link(running: Running) -> tuple[str, str, str]:
    """A request for a neighbour, by the link between."""
    return "n1", "n2", "s-n1-n2"


@pytest.mark.parametrize("shape", ["ring6", "grid9"])
@pytest.mark.parametrize("between", [on_circuit, on_link])
def test_a_request_without_pairs_leaves_a_link_whose_station_died_within_the_same_time(
    shape: str, between: Callable[[Running], tuple[str, str, str]]
) -> None:
    running = Running(shape)
    one, other, station = between(running)
    # It is dead when the request comes, but nobody knows.
    died = running.kill(station)
    request = running.ask(one, other, 3)
    running.rest(died + 7 * TIMING.keepalive_ns - running.now)
    assert not running.pairs(one, request)
    assert station[2:] in running.known(one)
    bound = died + LOST_NS + news_ns(shape)
    running.rest(bound - running.now)
    (path,) = running.paths(one)
    assert station[2:] not in {"-".join(sorted(two)) for two in pairwise(path)}
    running.until(lambda: running.done(one, request), 100 * MILLISECOND)
    running.rest(5 * MILLISECOND)
    assert len(running.endings(one, request)) == 1
    assert len(running.pairs(one, request)) == 3
    assert running.pairs(one, request) == running.pairs(other, request)


@pytest.mark.parametrize(("shape", "has_pairs"), [("ring6", True), ("chain5", False)])
def test_a_request_that_has_pairs_or_no_other_way_waits_for_the_station(
    shape: str, has_pairs: bool
) -> None:
    running = Running(shape)
    one, other, station = on_circuit(running)
    request = running.ask(one, other, 30)
    if has_pairs:
        running.until(lambda: len(running.pairs(one, request)) >= 5, 500 * MILLISECOND)
    died = running.kill(station)
    running.rest(died + LOST_NS + news_ns(shape) + 10 * MILLISECOND - running.now)
    (path,) = running.paths(one)
    assert set(station[2:].split("-")) <= set(path)
    assert not running.endings(one, request)
    running.net.start(station)
    running.until(lambda: running.done(one, request), SECOND)
    running.rest(5 * MILLISECOND)
    assert len(running.pairs(one, request)) == 30
    assert running.pairs(one, request) == running.pairs(other, request)


def test_a_request_that_is_cancelled_while_it_leaves_a_link_does_not_go_on() -> None:
    running = Running("ring6")
    user = running.users["n1"]
    died = running.kill("s-n1-n2")
    request = running.ask("n1", "n2", 3)
    network = running.net.host("n1").network
    running.until(lambda: bool(network.direct._moving), 20 * MILLISECOND)
    assert running.now <= died + LOST_NS + news_ns("ring6")
    user.say(Cancel(user.reference(), request))
    running.rest(20 * MILLISECOND)
    assert len(running.endings("n1", request)) == 1
    assert not user.done
    assert not running.paths("n1")
