"""One hop: requests find their link, indications find their way up."""

from __future__ import annotations

import pytest

from qstack.errors import ErrorCode, LocalProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.service import (
    LinkAccepted,
    LinkCancel,
    LinkCreate,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkListen,
    LinkOutcomeReady,
    LinkPairReady,
)
from qstack.machine import Down, Up
from qstack.messages.application import (
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import PLAIN_Z, Basis, PairId, PairInfo, PairKind, Qubit, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.machine import Network, NetworkParameters, OnLink
from qstack.network.service import NetworkCancel, NetworkCreate, NetworkListen, RequestAccepted
from qstack.physical.slots import Owner, Slots
from tests.network.circuit_links import evolve
from tests.network.links import link_between

INFO = PairInfo(PairId("ab", 1, 1), 2, 1, "s", 0.9, 0.8, 0, 0, True)


def request(number: int = 1, origin: str = "alice") -> LinkRequest:
    identity = RequestId(origin, 1, number)
    return LinkRequest(
        identity, PairKind.KEEP, 1, 0.5, 0, 3, 0, 1.0, False, False, False, PLAIN_Z, PLAIN_Z, None
    )


def network(slots: Slots | None = None) -> Network:
    links = (link_between("ab", "alice", "bob"), link_between("ac", "alice", "carol"))
    parameters = NetworkParameters(links, "alice/memory")
    return Network("alice", 1, parameters, slots or Slots(range(2)), CommandIds())


def test_each_request_goes_to_the_link_with_its_remote() -> None:
    wanted = request()
    assert network().handle(NetworkCreate("carol", wanted), 0) == [
        Down(OnLink("ac", LinkCreate(evolve(wanted, weight=0.001))))
    ]


def test_a_remote_that_nobody_told_of_is_refused_with_the_names_that_are_known() -> None:
    (up,) = network().handle(NetworkCreate("dave", request()), 0)
    assert isinstance(up, Up)
    assert up.event.code is ErrorCode.CREATE
    assert "dave" in up.event.reason
    assert "it knows nobody" in up.event.reason


def test_a_purpose_is_announced_on_every_link() -> None:
    actions = network().handle(NetworkListen(3, True), 0)
    assert actions == [
        Down(OnLink("ab", LinkListen(3, True))),
        Down(OnLink("ac", LinkListen(3, True))),
    ]


def test_cancel_reaches_the_link_of_the_request_until_it_ends() -> None:
    machine = network()
    identity = request().id
    assert machine.handle(NetworkCancel(identity, "x"), 0) == []
    machine.handle(NetworkCreate("bob", request()), 0)
    assert machine.handle(NetworkCancel(identity, "x"), 0) == [
        Down(OnLink("ab", LinkCancel(identity, "x")))
    ]
    machine.handle(OnLink("ab", LinkDone(identity, 1, 0)), 0)
    assert machine.handle(NetworkCancel(identity, "x"), 0) == []
    assert machine.running == 0


def test_a_pair_changes_hands_on_its_way_up() -> None:
    slots = Slots(range(2))
    machine = network(slots)
    qubit = slots.take(Owner("network", "r"))
    assert qubit is not None
    ready = LinkPairReady(request().id, "bob", 3, INFO, qubit, None, None, False)
    (up,) = machine.handle(OnLink("ab", ready), 0)
    assert isinstance(up, Up)
    assert up.event == PairReady(request().id, "bob", 3, INFO, qubit, None, None, False)
    assert slots.holds(qubit, "application")


def test_a_pair_that_the_network_does_not_hold_is_our_own_bug() -> None:
    ready = LinkPairReady(request().id, "bob", 3, INFO, Qubit(0, 1), None, None, False)
    with pytest.raises(LocalProtocolError, match="slot 0"):
        network().handle(OnLink("ab", ready), 0)


def test_every_other_indication_is_passed_up_in_the_users_words() -> None:
    machine = network()
    theirs = request(origin="bob")
    cases = [
        (LinkAccepted(theirs), RequestAccepted(theirs.id, "bob", 3)),
        (
            LinkOutcomeReady(theirs.id, "bob", 3, INFO, Basis.X, 1),
            OutcomeReady(theirs.id, "bob", 3, INFO, Basis.X, 1),
        ),
        (LinkExpired(theirs.id, INFO.pair, "lost"), PairExpired(theirs.id, INFO.pair, "lost")),
        (LinkDone(theirs.id, 4, 1), RequestDone(theirs.id, 4, 1)),
        (
            LinkFailed(theirs.id, ErrorCode.TIMEOUT, "late", 2),
            RequestEnded(theirs.id, ErrorCode.TIMEOUT, "late", 2),
        ),
    ]
    for below, above in cases:
        assert machine.handle(OnLink("ab", below), 0) == [Up(above)]
