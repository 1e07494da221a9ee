"""A reply that a herald makes superfluous may wait; what it would say is true all the same."""

from __future__ import annotations

import pytest

from qstack.messages.common import PairKind, RequestId
from qstack.messages.physical import ArmReply, Success, Verdict
from qstack.physical.arming import Arming, Wish
from qstack.physical.events import StationReachable
from qstack.physical.heralding import HOLD
from qstack.physical.service import KeptReady, Settled
from tests.physical.physical_lab import CONFIRM, NAMES, Job, Lab, job, parameters

STATION = 100


def replies(lab: Lab, since: int = 0) -> list[tuple[int, str, ArmReply]]:
    return [(at, to, m) for at, _, to, m in lab.sent if isinstance(m, ArmReply) and at >= since]


def ask(lab: Lab, work: Job) -> int:
    """Let both ends, which rest, serve this; return the instant."""
    lab.jobs.append(work)
    for name in NAMES:
        lab.done[name].append(0)
        lab.serve(name)
    return lab.now


def test_a_new_request_that_is_soon_over_costs_no_reply_but_that_of_the_rest() -> None:
    lab = Lab(success=1.0).start(job(1, 1))
    lab.run()
    begun = ask(lab, job(2, 1))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(STATION, 1), (STATION, 2)]
    assert {m.reason for _, _, m in replies(lab, begun)} == {"idle"}
    lab.rested()


def test_every_switch_is_settled_before_what_came_of_it_is_indicated() -> None:
    lab = Lab(link=parameters(modes=2, memories=2)).start(job(1, 3), job(2, 4), job(3, 1))
    lab.run()
    for name in NAMES:
        told = [up for up in lab.ups[name] if isinstance(up, (Settled, KeptReady))]
        assert [up.last_sequence for up in told if isinstance(up, Settled)] == [0, 3, 7, 8]
        seen = 0
        for up in told:
            if isinstance(up, Settled):
                assert up.last_sequence == seen
            else:
                seen = up.sequence
    lab.rested()


def test_without_success_the_reply_comes_after_a_quarter_of_the_confirmation_time() -> None:
    lab = Lab(success=1.0).start(job(1, 1))
    lab.run()
    lab.hardware.success = 0.0
    begun = ask(lab, job(2, 2))
    lab.run(begun + 2 * CONFIRM)
    after = replies(lab, begun)
    assert sorted({to for _, to, _ in after}) == ["alice", "bob"]
    for at, _, reply in after:
        assert reply.verdict is Verdict.ACCEPT
        assert reply.number == 4  # to rest, the first request, to rest, the second
        assert CONFIRM // HOLD <= at - begun <= CONFIRM // HOLD + 50_000
    lab.hardware.success = 1.0
    lab.run()
    assert len(lab.results("alice")) == len(lab.results("bob")) == 3
    lab.rested()


def test_an_end_that_is_behind_is_told_at_once() -> None:
    lab = Lab().start(job(1, 1))
    lab.run()
    begun = lab.now
    lab.step("alice", job(2, 1).serve("alice", 1, 1))
    lab.step("bob", job(3, 1).serve("bob", 1, 2))
    lab.run(begun + CONFIRM // HOLD - 1)
    told = {to: m.verdict for _, to, m in replies(lab, begun)}
    assert told["alice"] is Verdict.BEHIND


def test_an_end_without_a_herald_line_is_answered_at_once() -> None:
    lab = Lab(link=parameters(herald_line=False)).start(job(1, 1))
    lab.run()
    begun = ask(lab, job(2, 1))
    lab.run()
    (at, *_), *_ = replies(lab, begun)
    assert at - begun <= 50_000
    lab.rested()


def success(number: int, sequence: int) -> Success:
    return Success(sequence, RequestId("alice", 7, number), 5, 0, 1, 2, (), "s")


def wish(number: int, version: int = 1) -> Wish:
    return Wish(RequestId("alice", 7, number), PairKind.KEEP, "s", version)


@pytest.mark.parametrize(
    ("wishes", "heralded", "standing"),
    [
        ([wish(1)], 1, True),
        ([wish(1), wish(2)], 2, True),
        ([wish(1), wish(2)], 1, False),
        # It may have been made under the number before.
        ([wish(1), wish(1, 2)], 1, False),
        ([wish(1), wish(2), wish(1)], 1, False),
        ([wish(1), Wish(None, PairKind.KEEP, "", 2), wish(1)], 1, False),
        ([wish(1), Wish(None, PairKind.KEEP, "", 2)], 1, False),
    ],
)
def test_only_a_success_that_no_former_arm_can_have_brought_is_an_answer(
    wishes: list[Wish], heralded: int, standing: bool
) -> None:
    arming = Arming("a-b")
    arming.handle(StationReachable(9))
    for each in wishes:
        arming.handle(each)
    arming.handle(success(heralded, 7))
    assert arming.standing is standing
    assert arming.settled_at == (6 if standing else 0)
