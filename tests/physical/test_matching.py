"""Successes and emissions, in whatever order they are heard of."""

from __future__ import annotations

import itertools

import pytest

from qstack.errors import RemoteProtocolError
from qstack.messages.common import Basis, Qubit, RequestId
from qstack.messages.physical import Herald, Success
from qstack.physical.attempts import Emission
from qstack.physical.matching import Matching
from qstack.units import Instant

REQUEST = RequestId("alice", 7, 1)
PATIENCE = 1_000


def success(sequence: int, cycle: int) -> Success:
    return Success(sequence, REQUEST, cycle, 0, 1, 2, (), "s")


def emission(cycle: int, number: int = 1) -> Emission:
    request = RequestId("alice", 7, number)
    return Emission(number, request, "s", cycle, 0, Qubit(cycle, 1), Basis.Z, 0, 0, 0)


def check(matching: Matching, last_sequence: int, *successes: Success) -> None:
    """Check what a station says at its cycle 50, to a node whose credits reach 9."""
    herald = Herald("ab", 50, last_sequence, 5, successes, (), 0)
    matching.check(herald, successes, 50, 9)


def oldest(matching: Matching) -> Instant | None:
    return next(iter(matching.opened.values()), None)


def test_any_order_of_news_gives_the_pairs_in_sequence() -> None:
    news = [("tell", 1), ("tell", 2), ("emit", 1), ("emit", 2)]
    for order in itertools.permutations(news):
        matching = Matching(1, PATIENCE)
        seen = []
        for what, number in order:
            if what == "tell":
                matching.tell([success(number, 10 * number)], 0)
            else:
                assert matching.emit(emission(10 * number))
            while (resolved := matching.resolve(0)) is not None:
                seen.append((resolved.success.sequence, resolved.emission, resolved.reason))
        assert seen == [(1, emission(10), ""), (2, emission(20), "")]
        assert matching.waiting(1) == 0


def test_nothing_is_void_while_a_success_of_that_statement_is_unknown() -> None:
    matching = Matching(1, PATIENCE)
    matching.emit(emission(10))
    matching.emit(emission(20))
    matching.tell([success(2, 20)], 0)
    assert matching.decide(2, 30) == []
    matching.tell([success(1, 10)], 0)
    assert matching.redecide() == []
    assert [matching.resolve(0) is not None for _ in range(3)] == [True, True, False]


def test_what_was_decided_without_a_success_is_void_even_if_it_is_reported_late() -> None:
    matching = Matching(1, PATIENCE)
    matching.emit(emission(10))
    matching.emit(emission(40))
    assert matching.decide(0, 30) == [emission(10)]
    matching.emit(emission(20))
    assert matching.redecide() == [emission(20)]
    assert matching.waiting(1) == 1


def test_a_success_waits_for_its_emission_and_is_missing_after_that() -> None:
    matching = Matching(1, PATIENCE)
    matching.tell([success(1, 10)], 500)
    assert matching.patience_ends() == 1_500
    assert matching.resolve(1_499) is None
    resolved = matching.resolve(1_500)
    assert resolved is not None
    assert resolved.emission is None
    assert resolved.reason
    assert matching.seen == 1


def test_a_half_made_for_another_request_is_no_half_of_this_success() -> None:
    matching = Matching(1, PATIENCE)
    matching.emit(emission(10, number=2))
    matching.tell([success(1, 10)], 0)
    resolved = matching.resolve(0)
    assert resolved is not None
    assert resolved.emission == emission(10, number=2)
    assert "request" in resolved.reason


def test_successes_that_the_station_cannot_tell_any_more_are_passed_over() -> None:
    matching = Matching(1, PATIENCE)
    matching.tell([success(3, 30)], 0)
    matching.emit(emission(30))
    assert matching.resolve(0) is None
    matching.lose(2)
    resolved = matching.resolve(0)
    assert resolved is not None
    assert resolved.success.sequence == 3
    assert (matching.seen, matching.skipped) == (3, 2)


# --- cycles that begin again ---------------------------------------------------------------


def test_halves_of_a_former_count_wait_until_every_success_of_it_is_known() -> None:
    """Three successes; a message lists the first, and the others come after the count is new."""
    matching = Matching(1, PATIENCE)
    for cycle in (10, 20, 30, 40):
        matching.emit(emission(cycle))
    matching.tell([success(1, 10)], 0)
    matching.rewind(3)
    assert matching.freed() == []
    assert oldest(matching) == 0, "it is asked what became of them"
    assert matching.waiting(1) == 4
    assert matching.decide(3, 1_000) == []
    matching.tell([success(2, 20), success(3, 30)], 0)
    assert matching.decide(3, 1_000) == [], "nothing of the present count is void"
    assert (matching.freed(), matching.freed()) == ([emission(40)], [])
    found = [matching.resolve(0) for _ in range(3)]
    assert [each and (each.success.cycle, each.emission) for each in found] == [
        (cycle, emission(cycle)) for cycle in (10, 20, 30)
    ]
    assert (matching.resolve(0), matching.waiting(1), oldest(matching)) == (None, 0, None)


def test_cycles_of_one_number_in_two_counts_are_two_attempts() -> None:
    """The half of the new count is there before the old success of that number is told."""
    matching = Matching(1, PATIENCE)
    old, new = emission(10, number=1), emission(10, number=2)
    matching.emit(old)
    matching.rewind(1)
    assert matching.emit(new)
    late = Success(2, RequestId("alice", 7, 2), 10, 0, 1, 2, (), "s")
    both = (success(1, 10), late)
    check(matching, 2, *both)
    matching.tell(both, 0)
    check(matching, 2, *both)
    found = [matching.resolve(0), matching.resolve(0)]
    assert [each and (each.emission, each.reason) for each in found] == [(old, ""), (new, "")]


def test_two_successes_of_one_attempt_in_a_former_count_are_refused() -> None:
    matching = Matching(1, PATIENCE)
    matching.rewind(2)
    with pytest.raises(RemoteProtocolError, match="two successes of one attempt"):
        check(matching, 2, success(1, 10), success(2, 10))
    matching.tell([success(1, 10)], 0)
    with pytest.raises(RemoteProtocolError, match="are of one attempt"):
        check(matching, 2, success(2, 10))


def test_a_success_of_a_former_count_that_no_half_belongs_to_is_missing_and_takes_no_new_one() -> (
    None
):
    matching = Matching(1, PATIENCE)
    matching.rewind(1)
    matching.emit(emission(10))
    matching.tell([success(1, 10)], 0)
    assert not matching.ready()
    assert matching.resolve(PATIENCE - 1) is None
    missing = matching.resolve(PATIENCE)
    assert missing is not None
    assert missing.emission is None
    matching.tell([success(2, 10)], 0)
    assert matching.ready()


def test_counts_that_begin_again_twice_stay_apart_and_end_with_the_life_of_the_station() -> None:
    matching = Matching(1, PATIENCE)
    for number, upto in ((1, 1), (2, 2)):
        assert matching.emit(emission(10, number=number))
        matching.rewind(upto)
    matching.emit(emission(10, number=3))
    matching.tell([Success(2, RequestId("alice", 7, 2), 10, 0, 1, 2, (), "s")], 0)
    matching.tell([success(1, 10)], 0)
    first = matching.resolve(0)
    assert first is not None
    assert first.emission == emission(10, number=1)
    assert matching.begin(1) == [emission(10, number=2), emission(10, number=3)]
    assert matching.waiting(2) == matching.waiting(3) == 0
