"""Head-ends: what is asked of the controller, when again, and what circuits do with its word."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Send
from qstack.messages.circuits import CircuitId, CircuitInstall, Leg
from qstack.messages.network import RouteDigest
from qstack.messages.schedule import (
    BinHop,
    BinsAnswer,
    BinsAsk,
    BinsClock,
    BinsPlan,
    BinsRelease,
)
from qstack.network.division.asking import (
    REFRESHES,
    TABLE,
    Asking,
    AskState,
    Circuit,
    Denied,
    Granted,
    Served,
    Unheard,
    Wish,
    Work,
)
from qstack.network.machine import FromPeer, Network, NetworkParameters, PeerThere
from qstack.network.service import TimeDivision
from qstack.physical.slots import Slots
from tests.network.links import link_between

BIN, LEASE = 1_000, 30_000
DIVISION = TimeDivision("z", BIN, LEASE, ("a", "b", "c", "z"))
ONE = CircuitId("a", 1, 1)
INSTALL = CircuitInstall(
    ONE, (Leg("ab", "b", 0.9, 0.3, 5, False), Leg("bc", "c", 0.9, 0.2, 0, False)), 10, 100, False
)
WORK = Work(4_000, 90_000, 20)
ASK = BinsAsk(ONE, (BinHop("ab", "b"), BinHop("bc", "c")), 4_000, 90_000, 20, False)


class Head:
    """A head-end: `did` is what its circuits were told to do, `sent` what the controller is."""

    def __init__(self, *, there: bool = True) -> None:
        self.did: list[Any] = []
        self.sent: list[Any] = []
        self.missing = 1.0
        hooks = Circuit(self._proceed, self._fall_back, self._refuse, lambda _: self.missing)
        self.asking = Asking(DIVISION, self.sent.append, hooks, there=there)

    def _proceed(self, circuit: CircuitId) -> None:
        self.did.append(circuit)

    def _fall_back(self, install: CircuitInstall) -> None:
        self.did.append(install)

    def _refuse(self, answer: BinsAnswer) -> None:
        self.did.append(answer)

    def at(self, now: int) -> Asking:
        self.asking.now = now
        return self.asking

    def begin(self, install: CircuitInstall = INSTALL) -> CircuitInstall:
        tried = self.asking.prepare(install, WORK)
        if not self.asking.begin(install.circuit):
            self.did.append(tried)
        return tried

    @property
    def state(self) -> AskState:
        wish = self.asking.wish(ONE)
        assert wish is not None
        return wish.state


def answer(code: ErrorCode | None = None, bins: int = 5, last: int = 9_000) -> BinsAnswer:
    return BinsAnswer(ONE, code, "", "", bins, 0, last)


def test_a_circuit_with_a_maximum_time_asks_first_and_reserves_nothing_if_it_gets_bins() -> None:
    head = Head()
    tried = head.begin()
    assert (head.sent, head.did) == ([ASK], [])
    assert [leg.share for leg in tried.legs] == [0, 0]
    head.asking.answered(answer())
    assert head.did == [ONE]
    head.asking.answered(answer())
    assert head.did == [ONE], "an answer to a repeated ask begins nothing"


def test_one_without_a_maximum_time_asks_for_nothing() -> None:
    head = Head()
    assert head.asking.prepare(INSTALL, None) == INSTALL
    assert not head.asking.begin(ONE)
    assert (head.sent, head.asking.deadline) == ([], None)


def test_a_refusal_ends_the_install_and_nothing_is_kept_or_released() -> None:
    head = Head()
    head.begin()
    no = answer(ErrorCode.NO_TIME, 0)
    head.asking.answered(no)
    assert (head.did, head.asking.wish(ONE)) == ([no], None)
    head.asking.over(ONE)
    assert head.sent == [ASK]


def test_without_a_controller_shares_are_reserved_and_it_is_asked_when_it_comes() -> None:
    head = Head(there=False)
    assert head.begin() == INSTALL
    assert (head.sent, head.did, head.state) == ([], [INSTALL], AskState.WITHOUT)
    head.missing = 0.5
    head.at(40_000).there_again()
    assert head.sent == [attrs.evolve(ASK_ANY, work_ns=2_000, within_ns=50_000)]
    head.asking.answered(answer())
    assert (head.did, head.state) == ([INSTALL], AskState.GRANTED)


ASK_ANY: Any = ASK  # mypy does not know records for attrs classes


def test_a_controller_that_is_lost_or_silent_is_not_waited_for() -> None:
    head = Head()
    head.begin()
    head.at(100).gone()
    assert (head.did, head.state) == ([INSTALL], AskState.WITHOUT)
    silent = Head()
    silent.begin()
    assert silent.asking.deadline == LEASE // REFRESHES
    silent.at(LEASE // REFRESHES).tick()
    assert (silent.did, silent.state) == ([INSTALL], AskState.WITHOUT)
    assert len(silent.sent) == 2, "it is asked again, for the circuit that goes on without"


def test_what_is_granted_is_asked_for_again_three_times_in_a_lease_with_what_is_left() -> None:
    head = Head()
    head.begin()
    head.asking.answered(answer(last=80_000))
    head.missing = 0.25
    for turn in (1, 2, 3):
        now = turn * LEASE // REFRESHES
        assert head.asking.deadline == now
        head.at(now).tick()
        assert head.sent[-1] == attrs.evolve(ASK_ANY, work_ns=1_000, within_ns=90_000 - now)
        head.asking.answered(answer(last=80_000 - now))
    assert len(head.sent) == 4
    head.missing = 0.0
    head.at(60_000).tick()
    assert len(head.sent) == 4
    assert head.asking.deadline is None


def test_what_is_missing_when_the_bins_are_over_is_asked_for_at_once() -> None:
    head = Head()
    head.begin()
    head.asking.answered(answer(last=3_000))
    assert head.asking.deadline == 3_000 + BIN


def test_a_granted_circuit_whose_ask_is_denied_later_goes_on_without_and_tries_again() -> None:
    head = Head()
    head.begin()
    head.asking.answered(answer())
    head.asking.gone()
    assert (head.state, head.asking.deadline) == (AskState.GRANTED, None)
    head.at(9_000).there_again()
    head.asking.answered(answer(ErrorCode.NO_TIME, 0))
    assert (head.did, head.state) == ([ONE], AskState.WITHOUT)
    assert head.asking.deadline == 9_000 + LEASE // REFRESHES


def test_bins_are_released_when_they_are_needed_no_more_and_once() -> None:
    head = Head()
    head.begin()
    head.asking.answered(answer())
    head.asking.over(ONE)
    head.asking.over(ONE)
    assert head.sent == [ASK, BinsRelease(ONE)]
    head.asking.answered(answer())
    assert head.did == [ONE], "a late answer is nothing"
    dry = Head()
    dry.begin(attrs.evolve(INSTALL_ANY, dry=True))
    dry.asking.answered(answer())
    dry.asking.over(ONE)
    assert [type(each) for each in dry.sent] == [BinsAsk]


INSTALL_ANY: Any = INSTALL


@pytest.mark.parametrize("state", AskState)
@pytest.mark.parametrize("event", [Granted(), Denied(), Unheard(), Served()])
def test_every_event_leads_where_the_table_says_and_others_are_errors(
    state: AskState, event: Any
) -> None:
    wish = Wish(INSTALL, WORK, 0, state)
    allowed = TABLE[state].get(type(event))
    if allowed is None:
        with pytest.raises(LocalProtocolError):
            wish.handle(event)
        assert wish.state is state
        return
    wish.handle(event)
    assert wish.state in allowed


def network(node: str) -> Network:
    links = (link_between("ab", "a", "b"),) if node != "z" else (link_between("yz", "y", "z"),)
    parameters = NetworkParameters(links, f"{node}/memory", division=DIVISION)
    return Network(node, 1, parameters, Slots(range(2)), CommandIds())


@pytest.mark.parametrize(
    ("node", "peer", "message"),
    [
        ("a", "b", answer()),
        ("a", "b", BinsPlan("ab", 1, BIN, 0, 0, ())),
        ("a", "b", BinsClock(1, 0, 0)),
        ("a", "b", BinsRelease(CircuitId("b", 1, 1))),
        ("a", "z", BinsRelease(CircuitId("z", 1, 1))),
        ("z", "y", BinsRelease(CircuitId("y", 1, 1))),
        ("z", "b", ASK),
        ("z", "b", RouteDigest("", "", ())),
        ("a", "z", INSTALL),
    ],
)
def test_who_is_not_the_controller_grants_nothing_and_it_speaks_of_nothing_else(
    node: str, peer: str, message: Any
) -> None:
    machine = network(node)
    machine.handle(PeerThere(peer, 7), 0)
    with pytest.raises(RemoteProtocolError):
        machine.handle(FromPeer(peer, message), 0)


def test_a_controller_that_is_no_neighbour_takes_no_part_in_flooding() -> None:
    machine = network("a")
    sent = [a for a in machine.handle(PeerThere("z", 7), 0) if type(a) is Send and a.peer == "z"]
    assert sent == []
    assert any(
        type(action) is Send and type(action.message) is RouteDigest
        for action in machine.handle(PeerThere("b", 7), 0)
    )
