"""``qstack up``: every process of a network on this machine, and perhaps a command against it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import trio

from qstack.config import NetworkFile, load
from qstack.config.hosts import HERE
from qstack.drivers.knowing import heard_of, ignorance
from qstack.drivers.places import WORLD
from qstack.drivers.serving import DONE, FAILED, UNREACHABLE, USAGE
from qstack.errors import ConfigError
from qstack.machine import record
from qstack_nodes.host import host_command
from qstack_nodes.launcher import (
    ChildDied,
    Complaint,
    Ended,
    Happening,
    Linked,
    Lost,
    NotReady,
    Plan,
    Ready,
    how_ended,
    launched,
)
from qstack_nodes.noted import noted
from qstack_nodes.viewing import ask_all

NETWORK_VARIABLE = "QSTACK_NETWORK"
"""Tells a command that runs under ``qstack up`` (and its children) which network is live."""

READY_S = 20.0
LINKED_S = 20.0
KNOWN_S = 20.0
EACH_S = 5.0
"""Each of these spans is so much longer for every process, which share the processor's cores."""

KNOWN_EVERY_S = 0.02
COMMAND_STOP_S = 0.4
"""How long an interrupted command may take to end before it is killed."""

# Dies with the launcher (PR_SET_PDEATHSIG is 1), then becomes the command.
_GUARD = (
    "import ctypes, os, sys\n"
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 15)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)


@record
class UpOptions:
    """What to run, and how to tell of it. `command` may be empty.

    `only` these processes are started, all where it is empty: the others are waited for.
    """

    network: str
    command: tuple[str, ...] = ()
    json: bool = False
    traces: str | None = None
    verbose: bool = False
    only: tuple[str, ...] = ()


def plans_of(network: NetworkFile, options: UpOptions) -> list[Plan]:
    """Return a plan for each process: world, device hosts, then stations, then end nodes."""
    extra: tuple[str, ...] = ("--watched",)
    if options.traces is not None:
        extra += ("--traces", options.traces)
    if options.verbose:
        extra += ("--verbose",)
    plans = []
    if network.simulated():
        plans.append(Plan(WORLD, (sys.executable, "-m", "qstack.sim", options.network, *extra)))
    for host in network.hosts:
        if host.started == HERE:
            command = host_command(network, options.network, host)
            plans.append(Plan(host.name, (sys.executable, "-I", "-S", "-c", _GUARD, *command)))
    for node in sorted(network.nodes, key=lambda node: (node.kind != "station", node.name)):
        command = (sys.executable, "-m", "qstack_nodes.command", "node")
        plans.append(Plan(node.name, (*command, options.network, node.name, *extra)))
    known = [plan.name for plan in plans]
    unknown = [name for name in options.only if name not in known]
    if unknown:
        reason = f"there is no process {', '.join(unknown)}: there are {', '.join(known)}"
        raise ConfigError([f"{network.file}: {reason}"])
    return [plan for plan in plans if not options.only or plan.name in options.only]


def elsewhere(network: NetworkFile, plans: list[Plan]) -> list[tuple[str, str]]:
    """Return the parties that somebody else starts: name and address."""
    here = {plan.name for plan in plans}
    found = [(host.name, host.address) for host in network.hosts]
    found += [(node.name, node.address) for node in network.nodes]
    if network.world is not None and network.simulated():
        found.insert(0, (WORLD, network.world.address))
    return [(name, address) for name, address in found if name not in here]


class Teller:
    """Writes what happens: sentences for people, or JSON lines.

    It writes to standard error where a command has standard output for itself.
    """

    def __init__(self, options: UpOptions) -> None:
        self._json = options.json
        self._verbose = options.verbose
        self._out = sys.stderr if options.command else sys.stdout
        self.quiet = False

    def tell(self, happening: Happening) -> None:
        """Take a happening of the launcher."""
        kind = type(happening).__name__.lower()
        if self._json:
            self.line({"event": kind, **_plain(happening)})
            return
        match happening:
            case Ready():
                text = f"{happening.name}: ready, {happening.where}" if self._verbose else ""
            case Linked():
                text = ""
            case Lost():
                text = f"{happening.name}: lost {happening.text}"
            case Complaint():
                text = f"{happening.name}: {happening.text}"
            case Ended():
                text = f"{happening.name} {how_ended(happening.code)}"
        if text and not self.quiet:
            print(text, file=self._out, flush=True)

    def line(self, fields: dict[str, object]) -> None:
        """Write a JSON line."""
        print(json.dumps(fields), file=self._out, flush=True)

    def waits(self, name: str, where: str) -> None:
        """A process that others start is waited for."""
        if self._json:
            self.line({"event": "waits", "name": name, "where": where})
        else:
            text = f"{name}: started elsewhere, expected at {where}"
            print(text, file=self._out, flush=True)

    def up(self, network: NetworkFile, names: list[str]) -> None:
        """Everything is ready."""
        if self._json:
            self.line({"event": "up", "network": network.name, "processes": names})
        else:
            hint = "" if self._out is sys.stderr else "; Ctrl-C stops it"
            print(f"{network.name} is up: {', '.join(names)}{hint}", file=self._out, flush=True)


def _plain(happening: Happening) -> dict[str, object]:
    return {
        field: getattr(happening, field)
        for field in ("name", "where", "text", "code", "tail")
        if hasattr(happening, field)
    }


@attrs.define
class _Outcome:
    code: int = DONE
    error: str = ""


def up(options: UpOptions) -> int:
    """Run a network until interrupted, or until the command ends; return the exit code."""
    network = load(options.network)
    if options.command and shutil.which(options.command[0]) is None:
        print(f"{options.command[0]}: there is no such command", file=sys.stderr)
        return USAGE
    outcome = _Outcome()
    teller = Teller(options)
    try:
        trio.run(_up, network, options, teller, outcome)
    except* (ChildDied, NotReady) as group:
        first = _first(group)
        outcome.error = str(first)
        outcome.code = UNREACHABLE
        if isinstance(first, ChildDied):
            known = first.ended.code in (USAGE, UNREACHABLE)
            outcome.code = first.ended.code if known else FAILED
    if outcome.error:
        print(outcome.error, file=sys.stderr)
    if options.json:
        teller.line({"summary": {"exit_code": outcome.code, "error": outcome.error}})
    return outcome.code


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


async def _up(network: NetworkFile, options: UpOptions, teller: Teller, outcome: _Outcome) -> None:
    plans = plans_of(network, options)
    async with trio.open_nursery() as nursery:
        await nursery.start(_until_signal, nursery.cancel_scope, teller)
        async with launched(plans, teller.tell) as launcher:
            more = EACH_S * len(plans)
            await launcher.wait_ready(READY_S + more)
            for name, address in elsewhere(network, plans):
                teller.waits(name, address)
            # The other part of a network is started by people, who have all the time they want.
            await launcher.wait_linked(math.inf if options.only else LINKED_S + more)
            await all_known(network, math.inf if options.only else KNOWN_S + more)
            with noted(named(options.network)):
                teller.up(network, [plan.name for plan in plans])
                nursery.start_soon(launcher.supervise)
                if options.command:
                    outcome.code = await run_command(options.command, options.network)
                else:
                    await trio.sleep_forever()
            teller.quiet = True
        nursery.cancel_scope.cancel()


async def all_known(network: NetworkFile, seconds: float) -> None:
    """Return when each end node knows all ways to all others; NotReady says who does not.

    `seconds` of wall time. Neighbours that have just found each other have yet to pass on what
    they heard, and a request for a distant node would be refused until then.
    """
    names = [node.name for node in network.nodes if node.kind == "end"]
    unknown = ["no node has answered"]
    with trio.move_on_after(seconds):
        while unknown:
            answers: dict[str, Any] = {}
            await ask_all(network, names, answers)
            heard = {n: heard_of(a) for n, a in answers.items() if isinstance(a, dict)}
            silent = [answer for answer in answers.values() if isinstance(answer, str)]
            unknown = silent + list(ignorance(network, heard))
            if unknown:
                await trio.sleep(KNOWN_EVERY_S)
    if unknown:
        raise NotReady(f"{'; '.join(unknown)}; and so for {seconds:g} s")


async def _until_signal(
    scope: trio.CancelScope, teller: Teller, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            teller.quiet = True
            scope.cancel()
            return


def named(network: str) -> str:
    """Return how a network is called from any folder."""
    place = Path(network)
    return str(place.resolve()) if place.is_file() else network


def _start(command: tuple[str, ...], network: str) -> subprocess.Popen[bytes]:
    """Start the user's command, which is told where the network is."""
    # Not by trio, which forks in a helper thread: the guard wants this thread as its parent.
    return subprocess.Popen(  # noqa: S603  the user's own command
        (sys.executable, "-I", "-S", "-c", _GUARD, *command),
        env={**os.environ, NETWORK_VARIABLE: named(network)},
    )


async def run_command(command: tuple[str, ...], network: str) -> int:
    """Run a command to its end and return its code, 128 + n where signal n ended it.

    It shares terminal and process group with this process. When cancelled, it is stopped.
    """
    popen = _start(command, network)
    try:
        code = await trio.to_thread.run_sync(popen.wait, abandon_on_cancel=True)
    finally:
        if popen.poll() is None:
            popen.terminate()
            try:
                # Blocking: everything else has been cancelled already.
                popen.wait(COMMAND_STOP_S)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
    return code if code >= 0 else 128 - code
