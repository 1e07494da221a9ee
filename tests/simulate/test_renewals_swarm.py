"""The swarms over links with windows whose clocks begin again many times within a run.

Oscillators are reckoned with as if they gained or lost a thirtieth on each other, so that a run
of some tens of milliseconds sees what takes minutes otherwise. Truly they drift as the scenario
says.
"""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest

from qstack.physical import clock, gate
from qstack.sim.network import VirtualNetwork
from qstack.stack import StationNode
from qstack.testing import routes, swarm
from qstack.testing.routes_scenario import draw as draw_routes
from qstack.testing.scenario import draw
from tests.simulate.test_windows_swarm import WINDOWS

DRIFT = 30
FEW = 7
"""So many times at least the clocks of a run's links begin again, with those of stations that are
started again left out."""


@pytest.fixture(autouse=True)
def drifting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the patience of links that are always open: these are for two thirds."""
    for room in (clock, gate):
        monkeypatch.setattr(room, "DRIFT", DRIFT)
    for module, name in (
        (swarm, "PATIENCE_NS"),
        (swarm, "PATIENCE_SLOW_NS"),
        (routes, "PATIENCE_NS"),
    ):
        monkeypatch.setattr(module, name, 3 * getattr(module, name))


def renewals(net: VirtualNetwork) -> int:
    """How often clocks began again in the present lives of their stations."""
    hosts = [net.host(name) for name in net.places.parties]
    stations = [host for host in hosts if isinstance(host, StationNode)]
    assert stations
    return sum(link._clock.epoch for each in stations for link in each.physical.links.values())


@pytest.mark.parametrize("seed", [1, 4, 7, 19])
def test_two_nodes_keep_their_promises_while_the_clock_of_their_link_begins_again(
    seed: int,
) -> None:
    drawn: Any = draw(seed)
    lab = attrs.evolve(cast(Any, drawn.lab), windows=WINDOWS[seed % len(WINDOWS)])
    seen: list[VirtualNetwork] = []
    result = swarm.run(attrs.evolve(drawn, lab=lab), seen.append)
    assert (result.checker, result.problem) == ("", "")
    assert result.delivered > 0
    assert renewals(seen[0]) >= FEW


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_circuits_keep_their_promises_while_the_clocks_of_their_links_begin_again(
    seed: int,
) -> None:
    """States, outcomes and owners are compared with the world's, as in all runs of the swarm."""
    drawn: Any = draw_routes(seed)
    names = [link.name for link in drawn.lab.links()]
    hours = {name: WINDOWS[(seed + place) % len(WINDOWS)] for place, name in enumerate(names)}
    seen: list[VirtualNetwork] = []
    lab = attrs.evolve(cast(Any, drawn.lab), windows=hours)
    result = routes.run(attrs.evolve(drawn, lab=lab), seen.append)
    assert (result.checker, result.problem) == ("", "")
    assert result.routed > 0
    assert renewals(seen[0]) >= FEW
