"""A link that circuits fill for each other is divided, and only then."""

from __future__ import annotations

from qstack.messages.circuits import CircuitId, CircuitInstall, Leg, Method
from qstack.network.crowding import DIVIDED, LONGEST_CUTOFF_NS, PATIENCE, Crowding
from qstack.network.places import Place
from qstack.units import SECOND
from tests.network.links import link_between

CUTOFF = 16_000
LINK = link_between("n0-n1", "n0", "n1", slots=((0, 1, 2, 3), (0, 1, 2, 3)))


def place(
    number: int, method: Method = Method.NONE, rounds: int = 0, cutoff: int = CUTOFF
) -> Place:
    """A circuit from n0 over n1 to n2 at its head-end."""
    legs = (
        Leg("n0-n1", "n1", 0.5, 0.0, cutoff, False, method, rounds, 0),
        Leg("n1-n2", "n2", 0.5, 0.0, cutoff, False, Method.NONE, 0, 0),
    )
    return Place(CircuitInstall(CircuitId("n0", 1, number), legs, 10, 10, False), 0)


class Clock:
    """Time as the test lets it pass."""

    now = 0


def divided(mine: Place, other: Place, held: tuple[int, int]) -> bool:
    """Whether the link is divided between them after a patience in which nothing changes."""
    crowding = Crowding("n0", [LINK], lambda: Clock.now)
    running = [(mine, held[0]), (other, held[1])]
    Clock.now = 0
    crowding.look("n0-n1", running)
    assert not crowding.sharing("n0-n1")
    Clock.now = CUTOFF // PATIENCE
    crowding.look("n0-n1", running)
    found = crowding.sharing("n0-n1")
    if not found:
        return False
    assert found == {mine.id, other.id}
    Clock.now += CUTOFF // DIVIDED
    assert not crowding.sharing("n0-n1")
    return True


def test_a_circuit_that_has_less_than_it_needs_of_a_full_link_makes_it_crowded() -> None:
    """Who pumps needs two halves at once: with one alone it waits for ever, as with none."""
    plain, pumps = place(1), place(2, Method.PUMPED_DEJMPS, 2)
    assert divided(plain, place(3), (4, 0))
    assert not divided(plain, place(3), (3, 1))
    assert divided(plain, pumps, (3, 1))
    assert not divided(plain, pumps, (2, 2))


def test_a_link_with_a_qubit_left_or_a_circuit_alone_is_not_crowded() -> None:
    pumps = place(2, Method.PUMPED_DEJMPS, 2)
    assert not divided(place(1), pumps, (2, 1))
    crowding = Crowding("n0", [LINK], lambda: Clock.now)
    crowding.look("n0-n1", [(place(1), 4)])
    assert crowding.deadline is None
    assert not crowding.any


def test_patience_begins_anew_where_a_circuit_got_on_meanwhile() -> None:
    crowding = Crowding("n0", [LINK], lambda: Clock.now)
    one, other = place(1), place(2)
    Clock.now = 0
    crowding.look("n0-n1", [(one, 4), (other, 0)])
    Clock.now = CUTOFF // PATIENCE - 1
    crowding.look("n0-n1", [(one, 3), (other, 1)])
    assert not crowding.any
    crowding.look("n0-n1", [(one, 4), (other, 0)])
    Clock.now += 1
    crowding.look("n0-n1", [(one, 4), (other, 0)])
    assert not crowding.sharing("n0-n1")
    assert crowding.deadline == CUTOFF // PATIENCE - 1 + CUTOFF // PATIENCE


def test_no_link_is_crowded_for_longer_where_memories_last_for_seconds() -> None:
    """Patience is a sixteenth of the longest cutoff that counts, with none as with one of 5 s."""
    for cutoff in (0, 5 * SECOND):
        crowding = Crowding("n0", [LINK], lambda: Clock.now)
        Clock.now = 0
        crowding.look("n0-n1", [(place(1, cutoff=cutoff), 4), (place(2, cutoff=cutoff), 0)])
        assert crowding.deadline == LONGEST_CUTOFF_NS // PATIENCE == 250_000
