"""The plugin kit: every device of this project passes it, and planted broken ones do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from qstack.hal.contract import (
    Bench,
    ContractBroken,
    Session,
    begin,
    check_a_bell_measurement_agrees_with_gates,
    check_each_command_ends_once,
    checks_for,
)
from qstack.machine import Tick
from qstack.messages.common import Basis
from qstack.messages.devices import (
    Abort,
    Aborted,
    BellResult,
    Completed,
    EmitterArm,
    EmitterHeralded,
    EmitterMeasure,
    EmitterOutcome,
    MemoryInitialise,
    MemoryResult,
    Rejected,
)
from qstack.sim.devices import PLUGINS
from qstack.units import Instant
from tests.hal.benches import DEVICES, PERFECT, measuring, sim_memory

pytest_plugins = ["pytester"]


@pytest.mark.qstack_bench(*DEVICES.values())
def test_every_device_of_this_project_keeps_the_contract(device_check: Callable[[], None]) -> None:
    device_check()


def test_every_plugin_of_the_simulated_world_is_on_the_bench() -> None:
    names = {plugin.name for plugins in PLUGINS.values() for plugin in plugins}
    assert names - set(DEVICES) == set()


class Emitter:
    """A good emitter of one slot: an attempt a microsecond, the herald after five of them.

    Subclasses each break one promise.
    """

    def __init__(self) -> None:
        self.arm: EmitterArm | None = None
        self.done: Instant = 0
        self.deadline: Instant | None = None

    def handle(self, event: Any, now: Instant) -> list[Any]:
        match event:
            case Tick():
                return self.herald(now)
            case Abort():
                return [*self.abort(event), Completed("e", event.command)]
            case EmitterArm():
                late = event.exact and event.not_before * 1_000 <= now
                if late or self.arm is not None:
                    return self.refuse(event, late, now)
                return self.begin(event, now)
            case _:
                return self.unknown(event)

    def begin(self, event: EmitterArm, now: Instant) -> list[Any]:
        self.arm = event
        self.deadline = now + 5_000
        return []

    def refuse(self, event: EmitterArm, late: bool, now: Instant) -> list[Any]:
        return [Rejected("e", event.command, late, "no")]

    def unknown(self, event: Any) -> list[Any]:
        return [Rejected("e", event.command, False, "unknown")]

    def herald(self, now: Instant) -> list[Any]:
        if self.arm is None or self.deadline is None or self.deadline > now:
            return []
        command, self.arm, self.deadline = self.arm.command, None, None
        return [EmitterHeralded("e", command, 0, 5, 0, 0)]

    def abort(self, event: Abort) -> list[Any]:
        if self.arm is None or self.arm.command != event.target:
            return []
        self.arm = self.deadline = None
        return [Aborted("e", event.target, "aborted")]


class Twice(Emitter):
    def herald(self, now: Instant) -> list[Any]:
        return super().herald(now) * 2


class Never(Emitter):
    def herald(self, now: Instant) -> list[Any]:
        super().herald(now)
        return []


class Shifted(Emitter):
    """The late exact arm is begun all the same."""

    def refuse(self, event: EmitterArm, late: bool, now: Instant) -> list[Any]:
        return self.begin(event, now) if late else super().refuse(event, late, now)


class DeafToAborts(Emitter):
    def abort(self, event: Abort) -> list[Any]:
        return []


class TakesAnything(Emitter):
    def unknown(self, event: Any) -> list[Any]:
        return [Completed("e", event.command)]


class Wedged(Emitter):
    """Wants a TICK at once, again and again."""

    def herald(self, now: Instant) -> list[Any]:
        return []


class Backwards(Emitter):
    """After its TICK it wants one in the past."""

    def herald(self, now: Instant) -> list[Any]:
        events = super().herald(now)
        self.deadline = now - 1 if events and now < 50_000 else None
        return events


class Whimsical(Emitter):
    """What it does depends on something outside it, which a copy does not have."""

    lives = 0

    def begin(self, event: EmitterArm, now: Instant) -> list[Any]:
        super().begin(event, now)
        return []

    def herald(self, now: Instant) -> list[Any]:
        events = super().herald(now)
        Whimsical.lives += 1
        return [EmitterHeralded("e", e.command, 0, Whimsical.lives, 0, 0) for e in events]


class AnswersForAnother(Emitter):
    def unknown(self, event: Any) -> list[Any]:
        return [Rejected("f", event.command, False, "unknown")]


class NeverRefuses(Emitter):
    """A device that is in calibration and works nevertheless."""


def bench_of(kind: type[Emitter], unready: type[Emitter] | None = None) -> Bench:
    arm = EmitterArm("e", 0, "link", 0, (), 0, False, 100)
    late = EmitterArm("e", 0, "link", 0, (), 3, True, 100)
    return Bench("e", kind, (), (arm,), late=late, late_ns=10_000, unready=unready)


def breaches(bench: Bench) -> dict[str, str]:
    """Run every check and the random one; which found something, and what."""
    from qstack.kit import check_random_commands

    found = {}
    for check in (*checks_for(bench), check_random_commands):
        try:
            check(bench)
        except ContractBroken as breach:
            found[check.__name__.removeprefix("check_")] = str(breach)
    return found


def test_an_honest_device_passes_every_check() -> None:
    assert breaches(bench_of(Emitter)) == {}


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (Twice, "each_command_ends_once", "after EmitterHeralded"),
        (Twice, "random_commands", "after EmitterHeralded"),
        (Never, "each_command_ends_once", "no terminal event"),
        (Shifted, "a_late_exact_arm_is_rejected", "late exact arm came to None"),
        (DeafToAborts, "aborts_are_bounded", "ran on"),
        (DeafToAborts, "random_commands", "no terminal event"),
        (TakesAnything, "unknown_commands_are_rejected", "nothing that comes of"),
        (Wedged, "each_command_ends_once", "TICKs at once"),
        (Backwards, "each_command_ends_once", "after its TICK"),
        (Whimsical, "a_copy_does_the_same", "another way"),
        (AnswersForAnother, "unknown_commands_are_rejected", "another device"),
    ],
)
def test_a_planted_broken_device_is_caught_by_name(
    kind: type[Emitter], check: str, words: str
) -> None:
    found = breaches(bench_of(kind))
    assert check in found
    assert words in found[check]


def test_a_device_that_works_although_it_is_not_ready_is_caught() -> None:
    found = breaches(bench_of(Emitter, NeverRefuses))
    assert set(found) == {"a_device_that_is_not_ready_rejects"}


class Swapper:
    """The simulated memory, whose Bell results are twisted by a subclass."""

    def __init__(self) -> None:
        self.memory = sim_memory().make()

    @property
    def deadline(self) -> Instant | None:
        deadline: Instant | None = self.memory.deadline
        return deadline

    def handle(self, event: Any, now: Instant) -> list[Any]:
        events = self.memory.handle(event, now)
        return [self.twist(e) if isinstance(e, BellResult) else e for e in events]

    def twist(self, result: BellResult) -> BellResult:
        return result


class OtherBits(Swapper):
    """Its bits are the other way round."""

    def twist(self, result: BellResult) -> BellResult:
        bell = result.bell or 0
        return attrs.evolve(result, bell=(bell & 1) << 1 | bell >> 1)  # type: ignore[misc]  # a record


class Keeper(Swapper):
    """It keeps the qubits: a slot can be read afterwards."""

    def handle(self, event: Any, now: Instant) -> list[Any]:
        events = super().handle(event, now)
        if any(isinstance(e, Rejected) and "no qubit" in e.reason for e in events):
            return [MemoryResult("memory-a", event.command, event.slot, Basis.Z, 0, 0)]
        return events


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Swapper, ""),
        (OtherBits, "Bell state 1 of slots 0 and 2 was read 0 times of 24"),
        (Keeper, r"MemoryMeasure.* came to MemoryResult"),
    ],
)
def test_a_memory_whose_bell_measurement_differs_from_its_gates_is_caught(
    kind: type[Swapper], words: str
) -> None:
    bench = attrs.evolve(sim_memory(), make=kind)  # type: ignore[misc]  # a record
    if not words:
        check_a_bell_measurement_agrees_with_gates(bench)
        return
    with pytest.raises(ContractBroken, match=words):
        check_a_bell_measurement_agrees_with_gates(bench)


class OneAtATime:
    """A simulated emitter that refuses to measure for a command while another one runs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.emitter = make()
        self.running: set[int] = set()

    @property
    def deadline(self) -> Instant | None:
        deadline: Instant | None = self.emitter.deadline
        return deadline

    def handle(self, event: Any, now: Instant) -> list[Any]:
        if isinstance(event, EmitterMeasure):
            if self.running:
                return [Rejected(event.device, event.command, False, "busy")]
            self.running.add(event.command)
        events: list[Any] = self.emitter.handle(event, now)
        for each in events:
            if not isinstance(each, EmitterOutcome) or each.last:
                self.running.discard(each.command)
        return events


def test_an_emitter_that_measures_for_one_command_at_a_time_is_caught() -> None:
    bench = measuring(PERFECT)
    assert len(bench.examples) == 2
    check_each_command_ends_once(bench)
    make: Any = lambda: OneAtATime(bench.make)  # noqa: E731  a bench wants something to call
    with pytest.raises(ContractBroken, match=r"does not take .*EmitterMeasure"):
        check_each_command_ends_once(attrs.evolve(bench, make=make))  # type: ignore[misc]  # a record


def test_a_setup_that_the_device_does_not_take_is_an_error_of_the_bench() -> None:
    bench = Bench("e", Emitter, (MemoryInitialise("e", 0, 0),), ())
    with pytest.raises(ContractBroken, match="set-up"):
        begin(bench)


def test_the_kit_runs_as_a_pytest_plugin_and_fails_the_broken_device(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from qstack.hal.contract import Bench
        from qstack.messages.devices import Completed, MemoryInitialise, Rejected

        class Zero:
            deadline = None
            def __init__(self, terminals):
                self.terminals = terminals
            def handle(self, event, now):
                if type(event).__name__ == "Tick":
                    return []
                if type(event).__name__ in ("MemoryInitialise", "Abort"):
                    return [Completed("m", event.command)] * self.terminals
                return [Rejected("m", event.command, False, "no")]

        def bench(terminals):
            examples = (MemoryInitialise("m", 0, 0),)
            return Bench("m", lambda: Zero(terminals), (), examples)

        @pytest.mark.qstack_bench(bench(1))
        def test_good(device_check):
            device_check()

        @pytest.mark.qstack_bench(bench(2))
        def test_bad(device_check):
            device_check()
        """
    )
    # In a process of its own: this one has its records frozen, and its own plugins.
    result = pytester.runpytest_subprocess("-p", "qstack.kit", "-q", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=6, failed=6)
    result.stdout.fnmatch_lines(["*test_bad*m-each-command-ends-once*"])


def test_a_session_reports_an_event_of_a_command_that_was_never_given() -> None:
    session = Session(bench_of(Emitter), Emitter())
    session.device.arm = EmitterArm("e", 77, "link", 0, (), 0, False, 1)
    session.device.deadline = 5
    with pytest.raises(ContractBroken, match="never given"):
        session.run(10)
