"""A process of devices that says anything of them, to nodes and to stations.

It has what a laboratory's process has: the commands, and adjacencies with those that gave them.
Whatever it says is taken, or refused and counted; no process of ours ends by it, nor sends what
cannot be sent, and when it has become honest a fresh start mends all.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qstack.hal.commands import EVENTS as ANSWERS
from qstack.messages.application import AskStatus
from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import (
    EmitterArm,
    Faulted,
    MemoryBell,
    MemoryGate,
    MemoryMeasure,
    MemoryResult,
    StationOpen,
)
from qstack.testing import Party, Policy, free_at_once, terms
from qstack.testing.lab import ROW, Lab
from qstack.testing.memory import leftovers
from qstack.testing.routes_lab import RouteLab, chain
from qstack.units import MICROSECOND, MILLISECOND
from qstack.windows import Windows
from tests.whole.liars_rig import EVENTS, Liars, fabrication, twisted

DAY = Windows(20 * MILLISECOND, ((0, 8 * MILLISECOND),))
NAMES = {"row": ("alice", "bob", "charlie"), "chain": ("n1", "n2", "n3")}
IN_ORDER = {cls: sorted(kinds, key=lambda each: each.__name__) for cls, kinds in ANSWERS.items()}


def network(shape: str, seed: int) -> Liars:
    """Links alone, with storage, test rounds and windows; or a repeater that swaps."""
    if shape == "row":
        row = Lab(
            shape=ROW,
            qubits=3,
            storage=2,
            test_rate=0.2,
            work_ns=20_000,
            herald_line=bool(seed % 2),
            windows=None if seed % 3 else DAY,
        )
        return Liars(row.links(), row.world(), seed)
    lab = RouteLab(chain(3), qubits=3, work_ns=20_000, joined=True, gates=0.99, hub=seed % 2 == 0)
    return Liars(lab.links(), lab.world(), seed)


def ask(net: Liars, shape: str) -> None:
    """Ask for pairs of all kinds, so that commands of all kinds are given; and for counters."""
    one, two, three = (net.users[name] for name in NAMES[shape])
    if shape == "row":
        one.keep(terms("bob", 6), store=True, final=0)
        two.measure_directly(terms("charlie", 20), PLAIN_Z, PLAIN_Z)
        three.prepare(terms("bob", 6), PLAIN_Z, correct=True)
        two.keep(terms("alice", 6))
    else:
        one.keep(terms("n3", 6), final=0)
        three.keep(terms("n1", 6, fidelity_min=0.9))
        one.measure_directly(terms("n3", 6), PLAIN_Z, PLAIN_Z)
        three.prepare(terms("n1", 6), PLAIN_Z, correct=True)
    for user in (*net.users.values(), *net.watchers.values()):
        user.say(AskStatus(user.reference()))


def reading(user: Party) -> Policy:
    """Measure every half on delivery."""
    return lambda pair, now: user.measure(pair.qubit, PLAIN_Z)


def mended(net: Liars, shape: str) -> None:
    """Start everybody anew, with honest devices: a request is served and nothing is left over."""
    net.floor.twist = net.floor.aside = None
    for name in net.roles:
        net.restart(name)
    net.rest(80 * MILLISECOND)
    for user in net.users.values():
        user.policy = free_at_once
    net.accept()
    first, last = NAMES[shape][0], NAMES[shape][1 if shape == "row" else 2]
    user = net.users[first]
    before = len(user.done)
    user.keep(terms(last, 3))
    net.rest(80 * MILLISECOND)
    assert len(user.done) == before + 1
    assert all(leftovers(net.heap.host(name)) == [] for name in net.users)


@pytest.mark.parametrize("shape", NAMES)
@settings(max_examples=14, deadline=None, phases=[Phase.generate])
@given(
    seed=st.integers(0, 1 << 20),
    target=st.none() | st.sampled_from(sorted(ANSWERS, key=lambda each: each.__name__)),
    rate=st.sampled_from([0.05, 0.3]),
    pauses=st.lists(st.sampled_from([0, 100, 1_000, 5_000]), min_size=3, max_size=10),
)
def test_whatever_devices_say_no_process_ends_and_a_fresh_start_mends_all(
    shape: str, seed: int, target: Any, rate: float, pauses: list[int]
) -> None:
    """Lies about all commands or those of one kind: as they come, while they run, as they end."""
    random = Random(seed)
    net = network(shape, seed)

    def lies(command: Any) -> bool:
        return (target is None or type(command) is target) and random.random() < rate

    def lie(command: Any) -> Any:
        likely = random.random() < 0.6
        kind = random.choice(IN_ORDER[type(command)] if likely else EVENTS)
        return fabrication(kind, command, net.floor.outstanding(owner_of(command)), random)

    def owner_of(command: Any) -> str:
        return net.floor.owner_of[command.device]

    net.floor.aside = lambda command: lie(command) if lies(command) else None
    net.floor.twist = lambda command, event: (
        twisted(event, command, random) if lies(command) else event
    )
    for user in net.users.values():
        user.policy = random.choice([free_at_once, reading(user)])
    for turn, pause in enumerate(pauses):
        if turn % 4 == 0:
            ask(net, shape)
        net.rest(pause * MICROSECOND)
        owner = random.choice(list(net.roles))
        for command in net.floor.outstanding(owner)[:1]:
            if target is None or type(command) is target:
                net.lie(owner, lie(command))
    net.rest(10 * MILLISECOND)
    mended(net, shape)
    assert [net.refused(name) for name in net.roles] == [0] * len(net.roles)


@pytest.mark.parametrize("shape", NAMES)
def test_nothing_that_honest_devices_say_is_refused(shape: str) -> None:
    net = network(shape, 5)
    for user in net.users.values():
        user.policy = reading(user)
    given: set[type[Any]] = set()
    net.floor.aside = lambda command: given.add(type(command))
    for _ in range(3):
        ask(net, shape)
        net.rest(60 * MILLISECOND)
    assert {EmitterArm, StationOpen, MemoryGate, MemoryMeasure} <= given
    assert (MemoryBell in given) == (shape == "chain")
    assert [net.refused(name) for name in net.roles] == [0] * len(net.roles)
    assert sum(len(user.pairs) for user in net.users.values()) > 20


@pytest.mark.parametrize(
    ("victim", "kind"), [("alice", EmitterArm), ("station", StationOpen)], ids=["node", "station"]
)
def test_the_end_of_another_kind_of_command_is_refused_and_the_right_one_counts(
    victim: str, kind: type[Any]
) -> None:
    """It ended the process of who heard it."""
    net = network("row", 1)
    net.users["alice"].keep(terms("bob", 1_000))

    def running() -> list[Any]:
        return [each for each in net.floor.outstanding(victim) if type(each) is kind]

    net.heap.run(net.heap.now + 100 * MILLISECOND, stop=lambda: bool(running()))
    command = running()[0]
    before = net.refused(victim)
    net.lie(victim, MemoryResult(command.device, command.command, 0, Basis.Z, 0, 0))
    net.rest(0)
    assert command in net.floor.outstanding(victim)
    net.rest(MILLISECOND)
    assert net.refused(victim) == before + 1
    net.lie(victim, Faulted(command.device, command.command, "in truth"))
    net.rest(20 * MILLISECOND)
    assert net.refused(victim) == before + 1
    assert net.users["alice"].pairs


def test_reasons_as_long_as_the_wire_allows_pass_from_devices_to_users() -> None:
    """Others put their own words before them, and what is too long then ended the process."""
    net = network("row", 1)
    net.floor.aside = lambda command: (
        Faulted(command.device, command.command, "\N{GRINNING FACE}" * 512)
        if type(command) in (MemoryGate, MemoryMeasure)
        else None
    )
    alice = net.users["alice"]
    alice.policy = reading(alice)
    alice.keep(terms("bob", 3))
    alice.keep(terms("bob", 6), final=0)
    net.rest(60 * MILLISECOND)
    reasons = [answer.reason for answer in alice.answers.values() if answer.code is not None]
    reasons += [ended.reason for ended in alice.ended]
    assert len(reasons) >= 2
    assert {len(reason) for reason in reasons} == {512}
    assert all("\N{GRINNING FACE}" * 400 in reason for reason in reasons)
