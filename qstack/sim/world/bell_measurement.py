"""A Bell measurement of two qubits in one step: CNOT, H and two readouts, with their noise.

Followed backwards through its own gates, the bit that the first qubit gives is the sign of XX, and
that of the second the sign of ZZ; both together that of -YY. Depolarising, decay towards any
equilibrium and misreading only shrink these signs and add constants, so that what a memory
sees when it reads Bell index b is always ``(i + z ZZ + x XX + y YY) / 4`` with four numbers of b,
its *effect*. A measurement then is one pass over the terms of both registers, and four products
where two Bell-diagonal pairs are swapped: no register of all qubits is ever made.

Source: the Heisenberg picture of the textbook circuit (Nielsen and Chuang, chapters 1 and 8);
tested against density matrices, and against the world's own gates one by one.
"""

from __future__ import annotations

from typing import TypeAlias

from qstack.machine import record
from qstack.sim.world.registers import NOWHERE, Qubit, Register, Terms, X, Y, Z

Effect: TypeAlias = tuple[float, float, float, float]
"""The factors of II, ZZ, XX and YY, by the codes of Paulis; four times those of the effect."""

Effects: TypeAlias = tuple[Effect, Effect, Effect, Effect]
"""By the Bell index that is read."""


@record
class Quality:
    """`gate` and `turn`: what CNOT and H keep, otherwise mixing fully; `readout` of 0 and of 1."""

    gate: float
    turn: float
    readout: tuple[float, float]


@record
class During:
    """Decay between CNOT and the readouts; nothing by default.

    `flat`: factor on the coherence of the first qubit until its H. `stay`: share of its population
    that does not relax between H and readout; `both`: of the second's, from CNOT to readout.
    `rest`: <Z> at equilibrium.
    """

    flat: float = 1.0
    stay: float = 1.0
    both: float = 1.0
    rest: float = 0.0


def effects(quality: Quality, during: During) -> Effects:
    """Return the effect of each Bell index that may be read."""
    right0, right1 = quality.readout
    # A readout shows the sign `bias + sharp * sign`; relaxation has added to it before.
    bias, sharp = right0 - right1, right0 + right1 - 1.0
    phase_bias = bias + sharp * (1.0 - during.stay) * during.rest
    flip_bias = bias + sharp * (1.0 - during.both) * during.rest
    flip_one = sharp * during.both
    phase = sharp * quality.gate * quality.turn * during.flat * during.stay
    flip = flip_one * quality.gate

    def effect(index: int) -> Effect:
        x, z = (-1.0 if index & 2 else 1.0), (-1.0 if index & 1 else 1.0)
        known_phase, known_flip = 1.0 + z * phase_bias, 1.0 + x * flip_bias
        return (
            known_phase * known_flip,
            x * flip * known_phase,
            z * phase * known_flip,
            -x * z * phase * flip_one,
        )

    return effect(0), effect(1), effect(2), effect(3)


def bell_means(one: Qubit, other: Qubit) -> tuple[float, float, float]:
    """Return the means of ZZ, XX and YY of two qubits."""
    first, second = one.register.terms.get, other.register.terms.get
    a, b = 2 * one.place, 2 * other.place
    if one.register is other.register:
        zz, xx, yy = (first(pauli << a | pauli << b, 0.0) for pauli in (Z, X, Y))
    else:
        zz, xx, yy = (first(p << a, 0.0) * second(p << b, 0.0) for p in (Z, X, Y))
    return zz, xx, yy


def collapse(one: Qubit, other: Qubit, effect: Effect, probability: float) -> None:
    """Take two qubits out of their registers after an effect of this probability was seen.

    What is left of both registers is one register, the first one's qubits first.
    """
    norm = 4.0 * probability
    scaled = effect[0] / norm, effect[1] / norm, effect[2] / norm, effect[3] / norm
    if one.register is other.register:
        qubits, terms = _inside(one, other, scaled)
    else:
        qubits, terms = _between(one, other, scaled)
    one.register = other.register = NOWHERE
    Register(terms, qubits)


def _between(one: Qubit, other: Qubit, scaled: Effect) -> tuple[list[Qubit], Terms]:
    """The qubits and terms that two registers leave."""
    first, second = one.register, other.register
    parts: list[list[tuple[int, float]]] = [[], [], [], []]
    shift = 2 * other.place
    below = (1 << shift) - 1
    up = 2 * (len(first.qubits) - 1)
    for key, value in second.terms.items():
        code = (key & below) | (key >> (shift + 2) << shift)
        parts[(key >> shift) & 3].append((code << up, value))
    terms: Terms = {}
    shift = 2 * one.place
    below = (1 << shift) - 1
    for key, value in first.terms.items():
        pauli = (key >> shift) & 3
        factor = scaled[pauli] * value
        if factor:
            low = (key & below) | (key >> (shift + 2) << shift)
            for high, amount in parts[pauli]:
                code = low | high
                terms[code] = terms.get(code, 0.0) + factor * amount
    left = [each for each in first.qubits if each is not one]
    return left + [each for each in second.qubits if each is not other], terms


def _inside(one: Qubit, other: Qubit, scaled: Effect) -> tuple[list[Qubit], Terms]:
    """The qubits and terms that a register leaves which holds both."""
    register = one.register
    a, b = 2 * one.place, 2 * other.place
    low, high = (a, b) if a < b else (b, a)
    below, above = (1 << low) - 1, (1 << (high - 2)) - 1
    terms: Terms = {}
    for key, value in register.terms.items():
        pauli = (key >> a) & 3
        if pauli == (key >> b) & 3 and scaled[pauli]:
            code = (key & below) | (key >> (low + 2) << low)
            code = (code & above) | (code >> high << (high - 2))
            terms[code] = terms.get(code, 0.0) + scaled[pauli] * value
    return [each for each in register.qubits if each is not one and each is not other], terms
