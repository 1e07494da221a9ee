"""The one book of memories."""

from __future__ import annotations

import pytest

from qstack.errors import LocalProtocolError
from qstack.messages.common import Qubit
from qstack.physical.slots import Owner, Slots

PHYSICAL = Owner("physical", "a-b")
LINK = Owner("link", "a-b")


def test_slots_are_taken_in_order_and_each_life_has_its_own_generation() -> None:
    slots = Slots((1, 0), (2,))
    assert slots.take(PHYSICAL) == Qubit(0, 1)
    assert slots.take(PHYSICAL, among=(0,)) is None
    assert slots.take(PHYSICAL) == Qubit(1, 1)
    assert slots.take(PHYSICAL) is None
    assert slots.take(PHYSICAL, "storage") == Qubit(2, 1)
    slots.release(Qubit(0, 1), "physical")
    assert slots.take(PHYSICAL) == Qubit(0, 2)
    assert slots.total() == 2


def test_all_or_nothing_is_taken_so_that_nobody_waits_with_half() -> None:
    slots = Slots((0, 1, 2))
    first = slots.take(PHYSICAL)
    assert slots.take_all(LINK, 3) is None
    assert slots.free() == 2
    assert slots.take_all(LINK, 2) == (Qubit(1, 1), Qubit(2, 1))
    assert first is not None
    slots.release(first, "physical")
    assert slots.held() == {1: LINK, 2: LINK}


def test_a_stale_or_foreign_qubit_is_never_freed() -> None:
    slots = Slots((0,))
    qubit = slots.take(PHYSICAL)
    assert qubit is not None
    slots.give(qubit, "physical", LINK)
    with pytest.raises(LocalProtocolError):
        slots.release(qubit, "physical")
    assert slots.holds(qubit, "link")
    slots.release(qubit, "link")
    with pytest.raises(LocalProtocolError):
        slots.release(qubit, "link")
    slots.take(PHYSICAL)
    assert not slots.holds(qubit, "physical")


def test_every_release_is_counted_so_that_waiting_askers_can_try_again() -> None:
    slots = Slots((0, 1))
    for count in range(1, 4):
        qubit = slots.take(PHYSICAL)
        assert qubit is not None
        slots.release(qubit, "physical")
        assert slots.releases == count


def test_a_slot_cannot_be_of_both_kinds() -> None:
    with pytest.raises(LocalProtocolError):
        Slots((0, 1), (1, 2))
