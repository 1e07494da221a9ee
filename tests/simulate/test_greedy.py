"""Nobody who asks for much takes from those who were promised a rate on the same link."""

from __future__ import annotations

import pytest

from qstack.network.routing import Query, route
from qstack.testing import terms
from qstack.testing.routes_lab import RouteLab, star
from qstack.units import MILLISECOND, SECOND
from tests.simulate.promised import EFFICIENCY, Users

WINDOW_NS = 40 * MILLISECOND
MANY = 1_000_000
PART = 0.6
"""Of the route's rate; its links are reserved to that part."""


def greed(users: Users, kind: str) -> None:
    """Let somebody want as much as can be had of the link n1-n3, for ever."""
    match kind:
        case "circuits":
            for fidelity in (0.0, 0.5, 0.55, 0.6):
                users.of["n4"].keep(terms("n3", MANY, fidelity_min=fidelity))
        case "neighbours":
            for _ in range(5):
                users.of["n1"].keep(terms("n3", MANY, weight=50.0))
        case "neighbours in time":
            for _ in range(3):
                users.of["n1"].keep(terms("n3", MANY, max_time_ns=100_000 * SECOND))
                users.of["n3"].keep(terms("n1", 300, max_time_ns=WINDOW_NS))
        case "urgent":
            users.of["n4"].keep(terms("n3", MANY, priority=9))


@pytest.mark.parametrize("kind", ["circuits", "neighbours", "neighbours in time", "urgent"])
def test_a_promised_rate_is_kept_within_a_tenth_beside_users_who_want_all_of_a_link(
    kind: str,
) -> None:
    """Weighted fair links, four qubits each. What nobody was promised goes to the greedy."""
    users = Users(RouteLab(star(3), 4, scheduler="weighted-fair", efficiency=EFFICIENCY), 1)
    found = route(users.net.host("n2").network.demand.graph, Query("n2", "n3"))
    assert found is not None
    number = int(PART * found.rate_hz * WINDOW_NS / SECOND)
    reference = users.ask("n2", "n3", number, WINDOW_NS)
    greed(users, kind)
    users.rest(WINDOW_NS + MILLISECOND)
    user = users.of["n2"]
    request = user.created[reference]
    assert sum(pair.request == request for _, pair in user.pairs) >= 0.9 * number >= 50
    others = [len(users.of[name].pairs) for name in ("n1", "n4")]
    assert sum(others) > 0.2 * number
