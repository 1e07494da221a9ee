"""Joint states of qubits, as expectation values of Pauli strings.

A register of n qubits is ``rho = 2**-n * sum over P of terms[P] * P``. A Pauli string is an
integer with two bits per qubit (qubit k at bits 2k and 2k+1): I=0, Z=1, X=2, Y=3, the
encoding of Bell indices. Only terms that are not zero are kept, so a Bell-diagonal pair is
four numbers, whose three correlators say the same as its Bell weights; any other pair is at
most sixteen, and every map of the world (decay, Clifford gates, rotations, depolarising,
measurement along any axis) is exact and a few plain-Python operations.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from qstack.units import Duration, Instant

Terms: TypeAlias = dict[int, float]
Axis: TypeAlias = tuple[float, float, float]
Rotation: TypeAlias = tuple[tuple[tuple[int, float], ...], ...]
"""For I, Z, X, Y: the Paulis (code, factor) that it turns into under a gate."""

I, Z, X, Y = 0, 1, 2, 3  # noqa: E741  the field's own names

MIXED: Terms = {0: 1.0}
"""A qubit of which nothing is known."""


class Qubit:
    """A physical qubit of a memory in one of its lives.

    `born`: when it was initialised. `since`: when it began to decay where it now is (a move
    begins a new decay). `settled`: up to when its decay is already in its register.
    `stored`: it is in a storage slot, which attempts beside it dephase; `attempts`: how many
    of them (counted since the beginning of the world) its register has in it already.
    """

    __slots__ = ("attempts", "born", "memory", "place", "register", "settled", "since", "stored")

    def __init__(self, memory: Any, born: Instant) -> None:
        self.memory = memory
        self.born = born
        self.since = born
        self.settled = born
        self.stored = False
        self.attempts = 0
        self.place = 0
        self.register = NOWHERE

    def age(self, now: Instant) -> Duration:
        """The time since this qubit was initialised."""
        return now - self.born


class Register:
    """The joint state of `qubits`, in the order of their places."""

    __slots__ = ("qubits", "terms")

    def __init__(self, terms: Terms, qubits: list[Qubit]) -> None:
        self.terms = terms
        self.qubits = qubits
        for place, qubit in enumerate(qubits):
            qubit.register = self
            qubit.place = place


NOWHERE = Register({0: 1.0}, [])
"""Where a qubit is that was measured or lost: nothing is known of it."""


def dephase(terms: Terms, place: int, factor: float) -> Terms:
    """Shrink the coherences of one qubit: X and Y by `factor`."""
    bit = 2 << (2 * place)
    return {key: value * factor if key & bit else value for key, value in terms.items()}


def relax(terms: Terms, place: int, keep: float, equilibrium: float) -> Terms:
    """Relax the populations of one qubit: <Z> to keep <Z> + (1 - keep) `equilibrium`.

    Coherences are left alone. `equilibrium` is <Z> at rest, ``1 - 2 p(|1>)``.
    """
    shift = 2 * place
    feed = (1.0 - keep) * equilibrium
    new: Terms = {}
    for key, value in terms.items():
        pauli = (key >> shift) & 3
        if pauli == Z:
            new[key] = new.get(key, 0.0) + keep * value
        else:
            new[key] = value
            if pauli == I and feed:
                fed = key | (Z << shift)
                new[fed] = new.get(fed, 0.0) + feed * value
    return new


def depolarise(terms: Terms, places: tuple[int, ...], keep: float) -> Terms:
    """Replace the qubits at `places` by the maximally mixed state, with weight 1 - keep."""
    mask = 0
    for place in places:
        mask |= 3 << (2 * place)
    return {key: value * keep if key & mask else value for key, value in terms.items()}


def rotate(terms: Terms, place: int, rotation: Rotation) -> Terms:
    """Apply a one-qubit unitary, given by what it makes of each Pauli."""
    shift = 2 * place
    new: Terms = {}
    for key, value in terms.items():
        pauli = (key >> shift) & 3
        rest = key ^ (pauli << shift)
        for target, factor in rotation[pauli]:
            code = rest | (target << shift)
            new[code] = new.get(code, 0.0) + factor * value
    return new


def cnot(terms: Terms, control: int, target: int) -> Terms:
    """Apply CNOT: X of the control spreads to the target, Z of the target to the control."""
    c, t = 2 * control, 2 * target
    new: Terms = {}
    for key, value in terms.items():
        first, second = (key >> c) & 3, (key >> t) & 3
        code = key ^ ((first & 2) << t) ^ ((second & 1) << c)
        minus = (first == X and second == Z) or (first == Y and second == Y)
        new[code] = -value if minus else value
    return new


def controlled_z(terms: Terms, one: int, other: int) -> Terms:
    """Apply CZ: X of either qubit spreads a Z to the other."""
    a, b = 2 * one, 2 * other
    new: Terms = {}
    for key, value in terms.items():
        first, second = (key >> a) & 3, (key >> b) & 3
        code = key ^ ((first >> 1) << b) ^ ((second >> 1) << a)
        new[code] = -value if (first, second) in ((X, Y), (Y, X)) else value
    return new


def merge(one: Register, other: Register) -> Register:
    """Join two registers into one; nothing is entangled by that alone."""
    if one is other:
        return one
    terms = merge_terms(one.terms, other.terms, len(one.qubits))
    return Register(terms, one.qubits + other.qubits)


def merge_terms(one: Terms, other: Terms, qubits: int) -> Terms:
    """Return the terms of two registers side by side; the first has this many qubits."""
    shift = 2 * qubits
    return {low | (high << shift): a * b for low, a in one.items() for high, b in other.items()}


def expectation(qubit: Qubit, axis: Axis) -> float:
    """Return the mean of the spin along `axis`, in [-1, 1]."""
    register = qubit.register
    terms, shift = register.terms, 2 * qubit.place
    return (
        axis[0] * terms.get(X << shift, 0.0)
        + axis[1] * terms.get(Y << shift, 0.0)
        + axis[2] * terms.get(Z << shift, 0.0)
    )


def project(qubit: Qubit, axis: Axis, outcome: int, mean: float) -> None:
    """Take a qubit out of its register after `outcome` (0 or 1) was found along `axis`.

    `mean` is its expectation along the axis before.
    """
    sign = -1.0 if outcome else 1.0
    factors = (1.0, sign * axis[2], sign * axis[0], sign * axis[1])
    _contract(qubit.register, qubit, factors, 1.0 + sign * mean)


def drop(qubit: Qubit) -> None:
    """Lose a qubit: what it was entangled with goes on in its reduced state."""
    register = qubit.register
    if register is NOWHERE:
        return
    if len(register.qubits) == 1:
        # Nobody is left whose state it would be.
        register.qubits.clear()
        qubit.register = NOWHERE
        return
    shift = 2 * qubit.place
    mask, below = 3 << shift, (1 << shift) - 1
    terms = {
        key & below | key >> (shift + 2) << shift: value
        for key, value in register.terms.items()
        if not key & mask
    }
    _take_out(register, qubit, terms)


def _contract(
    register: Register, qubit: Qubit, factors: tuple[float, float, float, float], norm: float
) -> None:
    shift = 2 * qubit.place
    below = (1 << shift) - 1
    new: Terms = {}
    for key, value in register.terms.items():
        factor = factors[(key >> shift) & 3]
        if factor:
            code = (key & below) | ((key >> (shift + 2)) << shift)
            new[code] = new.get(code, 0.0) + factor * value / norm
    _take_out(register, qubit, new)


def _take_out(register: Register, qubit: Qubit, terms: Terms) -> None:
    """Let `terms`, of the other qubits, be all that the register holds."""
    qubits = register.qubits
    del qubits[qubit.place]
    for place, other in enumerate(qubits):
        other.place = place
    qubit.register = NOWHERE
    register.terms = terms


def reduced(terms: Terms, places: tuple[int, ...]) -> Terms:
    """Return the terms of the qubits at `places` alone, in that order; all others traced out."""
    mask = 0
    for place in places:
        mask |= 3 << (2 * place)
    new: Terms = {}
    for key, value in terms.items():
        if not key & ~mask:
            code = 0
            for index, place in enumerate(places):
                code |= ((key >> (2 * place)) & 3) << (2 * index)
            new[code] = value
    return new
