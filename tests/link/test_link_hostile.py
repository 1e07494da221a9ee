"""Any event in any state: a peer's nonsense is refused, and nothing else is ever raised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.link.service import LinkDone, LinkFailed
from qstack.messages.common import Basis, PairKind, RequestId
from qstack.messages.link import (
    LinkAdd,
    LinkAnswer,
    LinkClose,
    LinkCommit,
    LinkEnd,
    LinkEstimate,
    LinkExpire,
    LinkOutcome,
    LinkRemove,
    LinkSetting,
    LinkStation,
    LinkSync,
    LinkTest,
)
from qstack.units import MILLISECOND
from tests.link.link_rig import Rig, request

ENDS = ("alice", "bob")
SMALL = st.integers(-2, 9)
BOOTS = st.sampled_from([0, 11, 12])


def messages(known: list[RequestId]) -> st.SearchStrategy[Any]:
    """Well-formed messages with fields that may be anything, about requests known or not."""
    ids = st.sampled_from([*known, RequestId("alice", 7, 10**7), RequestId("carol", 1, 1)])
    codes, floats = st.sampled_from(list(ErrorCode)), st.floats(-10, 10)
    link, text = st.just("ab"), st.just("because")
    settings_ = st.sampled_from(["fast", "fine", "none such"])
    requests = st.builds(
        request,
        st.sampled_from(["alice", "bob", "carol"]),
        SMALL,
        kind=st.sampled_from(list(PairKind)),
        fidelity_min=st.sampled_from([0.5, 0.9, 2.0, float("nan")]),
        purpose=st.integers(1, 2),
        weight=st.sampled_from([1.0, 0.0, float("nan")]),
        remaining_ns=st.sampled_from([0, -1, 1, MILLISECOND]),
        store=st.booleans(),
    )
    tally = st.tuples(SMALL, floats, floats, floats)
    return st.one_of(
        st.builds(LinkSync, link, st.sampled_from([b"", b"k" * 16]), st.just((2, 2)), st.just(())),
        st.builds(LinkAdd, link, requests),
        st.builds(LinkAnswer, link, ids, st.none() | codes, text),
        st.builds(LinkCommit, link, SMALL, SMALL, requests, settings_, floats, floats),
        st.builds(LinkSetting, link, SMALL, ids, settings_),
        st.builds(LinkEnd, link, ids, codes, text),
        st.builds(LinkRemove, link, SMALL, ids, codes, text),
        st.builds(LinkExpire, link, BOOTS, SMALL, st.integers(-9, 10**9), text),
        st.builds(LinkExpire, link, BOOTS, SMALL, SMALL, text),
        st.builds(LinkTest, link, BOOTS, SMALL, SMALL, SMALL),
        st.builds(LinkOutcome, link, BOOTS, SMALL, st.sampled_from(list(Basis)), SMALL),
        st.builds(LinkClose, link, ids, BOOTS, SMALL, st.booleans(), SMALL),
        st.builds(LinkStation, link, BOOTS, SMALL, st.booleans()),
        st.builds(LinkEstimate, link, SMALL, settings_, SMALL, st.tuples(tally, tally, tally)),
        st.builds(LinkEstimate, link, SMALL, settings_, SMALL, st.lists(tally).map(tuple)),
    )


@pytest.mark.parametrize("victim", ENDS)
@settings(max_examples=60)
@given(data=st.data())
def test_whatever_a_peer_sends_is_taken_or_refused_and_memory_comes_back(
    victim: str, data: st.DataObject
) -> None:
    rig = Rig(data.draw(st.integers(0, 999)), test_rate=0.2)
    rig.success = 0.5
    rig.lied = True
    other = "bob" if victim == "alice" else "alice"
    known = [
        rig.create(request(origin, 3, kind=kind, store=store, final_bell=0))
        for origin in ENDS
        for kind, store in ((PairKind.KEEP, True), (PairKind.PREPARE, False))
    ]
    lies = messages(known)
    for _ in range(data.draw(st.integers(1, 12))):
        rig.run(data.draw(st.integers(0, 400_000)))
        lie = data.draw(lies)
        state = {k: r.state for k, r in rig.ends[victim].link._board.requests.items()}
        try:
            rig.step(rig.ends[victim], lie)
        except RemoteProtocolError:
            after = {k: r.state for k, r in rig.ends[victim].link._board.requests.items()}
            assert after == state
    # The liar's honest self may be confused by the answers; a fresh start mends everything.
    rig.restart(other)
    rig.run(5 * MILLISECOND)
    again = rig.create(request(victim, 2))
    rig.run(60 * MILLISECOND)
    rig.alike(again)
    assert rig.ends[victim].of(LinkDone, again)
    rig.no_leak()
    for wanted in known:
        if wanted.origin == victim:
            ends = rig.ends[victim].of(LinkDone, wanted) + rig.ends[victim].of(LinkFailed, wanted)
            assert len(ends) == 1
