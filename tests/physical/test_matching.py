"""Successes and emissions, in whatever order they are heard of."""

from __future__ import annotations

import itertools

from qstack.messages.common import Basis, Qubit, RequestId
from qstack.messages.physical import Success
from qstack.physical.attempts import Emission
from qstack.physical.matching import Matching

REQUEST = RequestId("alice", 7, 1)
PATIENCE = 1_000


def success(sequence: int, cycle: int) -> Success:
    return Success(sequence, REQUEST, cycle, 0, 1, 2, (), "s")


def emission(cycle: int, number: int = 1) -> Emission:
    request = RequestId("alice", 7, number)
    return Emission(number, request, "s", cycle, 0, Qubit(cycle, 1), Basis.Z, 0, 0, 0)


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
