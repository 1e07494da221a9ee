"""A confirmation is sent once: what is lost with it is noticed by who waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.errors import RemoteProtocolError
from qstack.messages.common import PairKind, RequestId
from qstack.messages.physical import Arm, ArmReply, Confirm, Herald, Success
from qstack.physical.arming import Arming, Wish
from qstack.physical.events import StationReachable
from qstack.physical.heralding import MAX_JUMP, StationEnd, Word
from tests.physical.physical_lab import CONFIRM, NAMES, Faults, Lab, job, parameters

STATION = 100
REQUEST = RequestId("alice", 7, 1)
WORD = Word("a-b", 900, 3, 800, 0, 0, 0)


def sent(lab: Lab, kind: type, source: str | None = None) -> list[tuple[int, Any]]:
    return [
        (at, message)
        for at, who, _, message in lab.sent
        if isinstance(message, kind) and source in (None, who)
    ]


def test_what_is_lost_with_a_confirmation_is_said_again_after_the_confirmation_time() -> None:
    """One memory each: without the credit that is lost there is no next pair."""
    lab = Lab(success=1.0)
    lost: list[int] = []

    def lose_the_second(source: str, target: str, message: object) -> bool:
        confirms = source == "bob" and isinstance(message, Confirm) and message.herald_sequence == 2
        if confirms:
            lost.append(lab.now)
        return confirms

    lab.lose = lose_the_second
    lab.start(job(1, 6))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(STATION, n) for n in range(1, 7)]
    assert len(lost) == 1, "it is sent once"
    at, arm = next(each for each in sent(lab, Arm, "bob") if each[0] > lost[0])
    assert (arm.herald_sequence, arm.credits) == (2, 3), "the whole arm, with what was lost"
    told = next(at for at, message in sent(lab, Herald) if message.last_sequence == 2)
    assert at == told + CONFIRM + 20_000, "when the station's reminder is there"
    lab.rested()


@pytest.mark.parametrize("memories", [1, 4])
@pytest.mark.parametrize("herald_line", [True, False])
def test_pairs_come_though_no_confirmation_ever_arrives(memories: int, herald_line: bool) -> None:
    """As with a station that does not know the message."""
    link = parameters(modes=memories, memories=memories, herald_line=herald_line)
    lab = Lab(success=0.3, link=link)
    lab.lose = lambda source, target, message: isinstance(message, Confirm)
    lab.start(job(1, 12))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(STATION, n) for n in range(1, 13)]
    for name in NAMES:
        assert not lab.missing(name)
    lab.rested()


@pytest.mark.parametrize("seed", range(1, 6))
def test_confirmations_may_be_lost_doubled_and_late(seed: int) -> None:
    link = parameters(modes=3, memories=3)
    lab = Lab(seed, 0.3, Faults(0.3, 0.3, (5_000, 200_000)), link).start(job(1, 30))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(STATION, n) for n in range(1, 31)]
    assert "remote_errors" not in lab.counts
    lab.rested()


def test_credit_that_comes_with_no_confirmation_leaves_in_an_arm() -> None:
    """Nobody would notice that it was lost."""
    lab = Lab(success=1.0, faults=Faults(hold=(2 * CONFIRM, 2 * CONFIRM))).start(job(1, 3))
    lab.run()
    for name in NAMES:
        confirmed = [m.credits for _, m in sent(lab, Confirm, name)]
        assert confirmed == [1, 2], "half of the confirmation time after each pair but the last"
        arms = [m for _, m in sent(lab, Arm, name) if m.request is not None]
        assert [(arm.herald_sequence, arm.credits) for arm in arms][-2:] == [(1, 2), (2, 3)]
    lab.rested()


def test_an_arm_is_sent_again_for_a_confirmation_but_not_for_an_arm() -> None:
    """An arm arrives; only what crossed it can list what it confirmed."""
    arming = Arming("a-b")
    arming.handle(StationReachable(STATION))
    arming.handle(Wish(REQUEST, PairKind.KEEP, "s", 1))
    assert isinstance(arming.message(0), Arm)
    arming.awaited = True
    assert isinstance(arming.message(1), Confirm)
    assert not arming.urgent
    arming.told_again(2)
    assert not arming.urgent, "it was not confirmed yet"
    arming.told_again(1)
    assert arming.urgent
    again = arming.message(1)
    assert isinstance(again, Arm)
    assert again.herald_sequence == 1
    arming.told_again(1)
    assert not arming.urgent, "the arm is on its way"


def arm(number: int = 1, seen: int = 0, credits_: int = 3) -> Arm:
    return Arm("a-b", STATION, number, REQUEST, PairKind.KEEP, "s", 1, seen, credits_, 0, 0)


def more(number: int = 1, seen: int = 0, credits_: int = 3) -> Confirm:
    return Confirm("a-b", STATION, number, seen, credits_)


def end_with(successes: int) -> StationEnd:
    """An end that has armed with three credits and was told of so many successes."""
    end = StationEnd("alice", CONFIRM)
    end.begin(9, 0)
    end.take(arm(), 0)
    for sequence in range(1, successes + 1):
        end.succeed(Success(sequence, REQUEST, 10 + sequence, 0, 1, 2, (), "s"), 0)
    return end


def state(end: StationEnd) -> tuple[int, int, list[int]]:
    """Credit, the last success seen, and what is not confirmed."""
    return end.credit, end.seen, [success.sequence for success in end.unconfirmed]


def test_a_confirmation_adds_and_an_older_word_takes_nothing_back() -> None:
    end = end_with(3)
    end.take_more(more(seen=2, credits_=5), 3, 1)
    assert state(end) == (2, 2, [3])
    for late in (more(seen=2, credits_=5), more(seen=1, credits_=4), more()):
        end.take_more(late, 3, 2)
        assert state(end) == (2, 2, [3])
    late_arm = arm(seen=1, credits_=4)  # it was lost and sent again
    end.check(late_arm, 3)
    end.take(late_arm, 3)
    assert state(end) == (2, 2, [3])
    newer = arm(seen=3, credits_=6)
    end.check(newer, 3)
    end.take(newer, 4)
    assert state(end) == (3, 3, [])


@pytest.mark.parametrize("number", [0, 2])
def test_a_confirmation_of_another_number_changes_nothing_and_leaves_the_reminder(
    number: int,
) -> None:
    """Its credit would be lost for good if what it confirms were not told again."""
    end = end_with(1)
    end.take_more(more(number, seen=1, credits_=9), 1, 1)
    assert state(end) == (2, 0, [1])
    assert end.remind_at == CONFIRM


@pytest.mark.parametrize(
    ("seen", "credits_"), [(2, 3), (-1, 3), (1, -1), (1, 4 + MAX_JUMP), (1 << 70, 3)]
)
def test_a_confirmation_that_cannot_be_is_refused(seen: int, credits_: int) -> None:
    end = end_with(1)
    with pytest.raises(RemoteProtocolError):
        end.take_more(more(seen=seen, credits_=credits_), 1, 1)
    assert state(end) == (2, 0, [1])


def test_an_arm_may_follow_on_ever_so_many_confirmations() -> None:
    """What it offers is compared with the latest word, not with the former arm."""
    end = end_with(1)
    for step in range(1, 4):
        end.take_more(more(credits_=step * MAX_JUMP), 1, step)
    whole = arm(seen=1, credits_=3 * MAX_JUMP + 1)
    end.check(whole, 1)
    end.take(whole, 5)
    assert end.credit == 3 * MAX_JUMP


def test_what_an_end_has_not_confirmed_is_told_again_after_it_was_away() -> None:
    end = end_with(1)
    end.lose()
    end.begin(9, 1)
    end.take(arm(2, credits_=1), 5 * CONFIRM)
    reply = end.reply(StationEnd("bob", CONFIRM), WORD)
    assert isinstance(reply, ArmReply)
    assert [success.sequence for success in reply.unconfirmed] == [1]
    assert end.remind_at == 6 * CONFIRM
    end.remind(6 * CONFIRM)
    assert end.reply_due
