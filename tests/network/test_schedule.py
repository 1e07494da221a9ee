"""The network schedule against exhaustive search, and against rules that any schedule must keep."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.link.timetable import bin_at, nonsense
from qstack.messages.common import RequestId
from qstack.network.schedule import (
    Ask,
    Asker,
    Origin,
    Plant,
    Refusal,
    Run,
    admit,
    bins_for,
    overload,
    timetable,
)

CHAIN = Plant({"ab": ("a", "b"), "bc": ("b", "c"), "cd": ("c", "d")}, {"b": 1, "c": 1})
LINK = Plant({"ab": ("a", "b")}, {})


def ask(number: int, begin: int, deadline: int, **needs: int) -> Ask:
    return Ask(RequestId("a", 1, number), begin, deadline, tuple(needs.items()))


def broken(plant: Plant, asks: list[Ask], runs: tuple[Run, ...]) -> str | None:
    """Return which rule the runs break, bin by bin."""
    count: dict[tuple[Asker, str], int] = {}
    for now in range(max((run.end for run in runs), default=0)):
        here = [run for run in runs if run.begin <= now < run.end]
        if len({run.link for run in here}) < len(here):
            return f"two on a link in bin {now}"
        for node, most in plant.at_once.items():
            if sum(node in plant.links[run.link] for run in here) > most:
                return f"{node} is in too many bins at {now}"
        for run in here:
            wanted = next(each for each in asks if each.id == run.id)
            if not wanted.begin <= now < wanted.deadline:
                return f"{run.id} works in bin {now}"
            count[run.id, run.link] = count.get((run.id, run.link), 0) + 1
    needed = {(each.id, link): n for each in asks for link, n in each.needs if n}
    return None if count == needed else f"{count} instead of {needed}"


def feasible(plant: Plant, asks: list[Ask]) -> bool:
    """Try every assignment of requests to links, bin by bin."""
    links = list(plant.links)

    @cache
    def search(now: int, left: tuple[tuple[int, ...], ...]) -> bool:
        if not any(any(row) for row in left):
            return True
        for each, row in zip(asks, left, strict=True):
            if any(row) and now >= each.deadline:
                return False
        could = [
            [None, *(i for i, e in enumerate(asks) if left[i][k] and e.begin <= now < e.deadline)]
            for k in range(len(links))
        ]
        for choice in product(*could):
            busy = [
                plant.links[link]
                for link, who in zip(links, choice, strict=True)
                if who is not None
            ]
            if any(
                sum(node in ends for ends in busy) > most for node, most in plant.at_once.items()
            ):
                continue
            rest = [list(row) for row in left]
            for k, who in enumerate(choice):
                if who is not None:
                    rest[who][k] -= 1
            if search(now + 1, tuple(tuple(row) for row in rest)):
                return True
        return False

    return search(0, tuple(tuple(dict(e.needs).get(link, 0) for link in links) for e in asks))


@st.composite
def cases(draw: st.DrawFn, plant: Plant) -> list[Ask]:
    made = []
    for number in range(draw(st.integers(1, 4 if len(plant.links) == 1 else 3))):
        begin = draw(st.integers(0, 3))
        needs = {link: draw(st.integers(0, 2)) for link in plant.links}
        made.append(ask(number, begin, begin + draw(st.integers(1, 5)), **needs))
    return made


def one_by_one(plant: Plant, asks: list[Ask]) -> tuple[list[Ask], Refusal | None, tuple[Run, ...]]:
    """Admit until the first refusal; return what is in, the refusal, and the last schedule."""
    held: list[Ask] = []
    runs: tuple[Run, ...] = ()
    for each in asks:
        found = admit(plant, held, each)
        if isinstance(found, Refusal):
            return [*held, each], found, runs
        held, runs = [*held, each], found
        assert broken(plant, held, runs) is None
    return held, None, runs


@given(cases(LINK))
def test_on_one_link_exactly_what_exhaustive_search_can_place_is_admitted(asks: list[Ask]) -> None:
    tried, refusal, _ = one_by_one(LINK, asks)
    assert feasible(LINK, tried) == (refusal is None)
    assert refusal is None or refusal.impossible


@given(cases(CHAIN))
@settings(max_examples=150)
def test_on_shared_nodes_schedules_keep_the_rules_and_what_is_called_impossible_is(
    asks: list[Ask],
) -> None:
    tried, refusal, _ = one_by_one(CHAIN, asks)
    if refusal is None or refusal.impossible:
        assert feasible(CHAIN, tried) == (refusal is None)


def test_the_order_in_which_requests_were_admitted_does_not_change_the_schedule() -> None:
    asks = [ask(1, 0, 9, ab=2, bc=2), ask(2, 0, 5, ab=2), ask(3, 1, 9, cd=3)]
    first = admit(CHAIN, asks[:2], asks[2])
    assert first == admit(CHAIN, [asks[2], asks[0]], asks[1])
    assert isinstance(first, tuple)


def test_the_earliest_deadline_interrupts_and_bins_of_a_shared_node_alternate() -> None:
    found = admit(CHAIN, [ask(1, 0, 10, ab=3, bc=2)], ask(2, 1, 4, ab=2))
    one, two = RequestId("a", 1, 1), RequestId("a", 1, 2)
    assert found == (
        Run("ab", 0, 1, one),
        Run("ab", 1, 3, two),
        Run("ab", 3, 5, one),
        Run("bc", 5, 7, one),
    )


@pytest.mark.parametrize(
    ("asks", "reason"),
    [
        (
            [ask(1, 0, 4, ab=3), ask(2, 0, 4, ab=2)],
            "link ab would need 5 bins from bin 0 to before bin 4",
        ),
        (
            [ask(1, 2, 4, ab=3)],
            "link ab would need 3 bins from bin 2 to before bin 4, where it has 2",
        ),
        ([ask(1, 0, 5, ab=2, bc=2), ask(2, 0, 5, bc=2)], "node b would need 6 bins"),
        ([ask(1, 5, 5, ab=1)], "where it has 0"),
    ],
)
def test_a_refusal_names_the_link_or_node_that_is_asked_for_too_much(
    asks: list[Ask], reason: str
) -> None:
    assert not feasible(CHAIN, asks)
    refusal = one_by_one(CHAIN, asks)[1]
    assert refusal is not None
    assert refusal.impossible
    assert reason in refusal.reason


def test_a_refusal_that_is_only_this_orders_says_so() -> None:
    # Nodes b and c are in one bin at a time, so ab and cd can go together, or bc alone. In bins 1
    # to 4 that fits if request 0 does its cd beside an ab; in the order of deadlines it does not.
    asks = [ask(0, 2, 5, cd=1), ask(1, 2, 4, ab=1, bc=1, cd=1), ask(2, 1, 5, ab=1, bc=1)]
    tried, refusal, _ = one_by_one(CHAIN, asks)
    assert tried == asks
    assert feasible(CHAIN, asks)
    assert overload(CHAIN, asks) is None
    assert refusal == Refusal(
        False, "a.0001.2 would miss its deadline on link bc by 1 bins, earliest deadline first"
    )


def test_a_node_with_two_qubits_is_in_two_bins_at_once_and_not_in_three() -> None:
    star = Plant({"ha": ("h", "a"), "hb": ("h", "b"), "hc": ("h", "c")}, {"h": 2})
    assert isinstance(admit(star, [ask(1, 0, 4, ha=2, hb=2)], ask(2, 0, 4, hc=2)), tuple)
    refused = admit(star, [ask(1, 0, 3, ha=2, hb=2)], ask(2, 0, 3, hc=3))
    assert isinstance(refused, Refusal)
    assert "node h would need 7 bins" in refused.reason


def test_links_that_are_asked_for_together_are_in_the_same_bins_and_count_once_at_a_node() -> None:
    first, second = (
        Ask(each.id, each.begin, each.deadline, each.needs, True)
        for each in (ask(1, 0, 9, ab=2, bc=2), ask(2, 1, 4, bc=1, cd=1))
    )
    # Node b is in one bin at a time and could not be in both of the first, were they not one.
    assert admit(CHAIN, [first], second) == (
        Run("ab", 0, 1, first.id),
        Run("bc", 0, 1, first.id),
        Run("bc", 1, 2, second.id),
        Run("cd", 1, 2, second.id),
        Run("ab", 2, 3, first.id),
        Run("bc", 2, 3, first.id),
    )
    apart = ask(3, 0, 9, ab=1, bc=2)
    with pytest.raises(ValueError, match="together"):
        admit(CHAIN, [], Ask(apart.id, 0, 9, apart.needs, True))


def test_asks_that_mean_nothing_are_errors_of_the_caller() -> None:
    for wrong in (ask(1, 0, 5, xy=1), ask(1, 0, 5, ab=-1), ask(9, 0, 5, ab=1)):
        with pytest.raises(ValueError, match=r"request|links|bins"):
            admit(LINK, [ask(9, 0, 5, ab=1)], wrong)


@pytest.mark.parametrize(
    ("figures", "bins"),
    [
        ((10, 300, 1000, 0), 3),
        ((10, 301, 1000, 0), 4),
        ((10, 300, 1000, 250), 4),
        ((0, 1, 1, 0), 0),
    ],
)
def test_bins_are_as_many_as_the_mean_time_of_all_pairs_fills(
    figures: tuple[int, int, int, int], bins: int
) -> None:
    assert bins_for(*figures) == bins


@given(cases(CHAIN), st.integers(0, 3), st.integers(4, 12))
@settings(max_examples=60)
def test_the_timetables_of_a_schedule_give_each_cycle_to_the_request_of_its_bin(
    asks: list[Ask], first: int, end: int
) -> None:
    held, _, runs = one_by_one(CHAIN, asks)
    owners = {each.id: ("a", 100 + each.id.number) for each in held}
    origin = Origin(7, 1, 1_000, 10)
    for link in CHAIN.links:
        table = timetable(runs, link, (first, end), origin, owners)
        assert nonsense(table) is None
        for number in range(first, end):
            mine = [run for run in runs if run.link == link and run.begin <= number < run.end]
            for cycle in (0, 9):
                here = bin_at(table, 1_000 + 10 * (number - first) + cycle)
                assert here.owner == (owners[mine[0].id] if mine else None)
                assert here.free == (not mine)
