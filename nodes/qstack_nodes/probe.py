"""``qstack check``: every error of a network file, ports in use, peers out of reach.

Each process of the network is one of: *running* (its user port answers, or its neighbours
reach it), *ready to start* (its ports are free here), *blocked* (something else has a port),
*elsewhere* and out of reach. When nothing runs, free ports are all that is wanted; when some of
it runs, those that do not are named with the likely cause. Links that the simulated world has to
run attempt by attempt, which costs processor time, are named with the reason.
"""

from __future__ import annotations

import errno
import json
import socket
from typing import Any

import trio

from qstack.config import NetworkFile, host_and_port, load
from qstack.drivers.places import WORLD, address_of
from qstack.drivers.serving import DONE, UNREACHABLE
from qstack.drivers.udp import Address, PortUnavailable, UdpSocket, format_address, resolve
from qstack.machine import record
from qstack.units import LinkName, NodeName
from qstack_nodes.viewing import ask_all

RUNNING, FREE, BLOCKED, AWAY, UNKNOWN = "running", "free", "blocked", "away", "unknown"


@record
class Finding:
    """What is known of a process: its state, and what to do where something is wrong."""

    name: NodeName
    where: str
    state: str
    advice: str


def check(network_name: str, *, as_json: bool) -> int:
    """Print what is found and return the exit code; ConfigError for a wrong file."""
    network = load(network_name)
    findings = trio.run(examine, network)
    stepwise = steps_of(network)
    bad = [finding for finding in findings if finding.advice]
    for finding in findings:
        if as_json:
            fields = ("name", "where", "state", "advice")
            print(json.dumps({name: getattr(finding, name) for name in fields}))
        else:
            line = f"{finding.name} at {finding.where}: {finding.state}"
            print(f"{line}: {finding.advice}" if finding.advice else line)
    for link, reason in stepwise:
        if as_json:
            print(json.dumps({"link": link, "attempt_by_attempt": reason}))
        else:
            print(f"link {link} runs attempt by attempt in the simulated world: {reason}")
    if as_json:
        counted = {"processes": len(findings), "wrong": len(bad), "stepwise": len(stepwise)}
        print(json.dumps({"summary": counted}))
    elif not bad:
        print(f"{network.file}: no errors")
    return UNREACHABLE if bad else DONE


def steps_of(network: NetworkFile) -> tuple[tuple[LinkName, str], ...]:
    """Return the links that the simulated world cannot skip ahead on, with the reason."""
    if not network.simulated():
        return ()
    from qstack.sim.from_file import attempt_by_attempt  # noqa: PLC0415  numpy, and for it alone

    return attempt_by_attempt(network)


async def examine(network: NetworkFile) -> list[Finding]:
    """Return a finding for each process of the network."""
    names = [node.name for node in network.nodes if node.user is not None]
    answers: dict[NodeName, dict[str, Any] | str] = {}
    await ask_all(network, names, answers)
    running = {name for name, answer in answers.items() if isinstance(answer, dict)}
    seen = _seen_by(answers)
    parties = [*(host.name for host in network.hosts), *(node.name for node in network.nodes)]
    if network.world is not None and network.simulated():
        parties.insert(0, WORLD)
    return [_finding(network, name, running, seen) for name in parties]


def _seen_by(answers: dict[NodeName, dict[str, Any] | str]) -> dict[NodeName, dict[str, bool]]:
    """Return, for each party, which running nodes reach it and which do not."""
    seen: dict[NodeName, dict[str, bool]] = {}
    for name, answer in answers.items():
        if isinstance(answer, dict):
            for peer, fields in answer.get("neighbours", {}).items():
                seen.setdefault(peer, {})[name] = bool(fields.get("up"))
    return seen


def _finding(
    network: NetworkFile,
    name: NodeName,
    running: set[NodeName],
    seen: dict[NodeName, dict[str, bool]],
) -> Finding:
    try:
        address = address_of(network, name)
    except PortUnavailable as error:
        return Finding(name, _written(network, name), UNKNOWN, str(error))
    where = format_address(address)
    misses = sorted(other for other, reached in seen.get(name, {}).items() if not reached)
    reached = any(seen.get(name, {}).values())
    if name in running or reached:
        advice = ""
        if misses:
            advice = (
                f"{', '.join(misses)} cannot reach it: are both from the same network file, and "
                "does a firewall drop UDP between them?"
            )
        return Finding(name, where, RUNNING, advice)
    state, advice = _port_state(network, name, address)
    if state == FREE and running:
        advice = f"it is not running, but others are: start it with qstack node ... {name}"
    return Finding(name, where, state, advice)


def _port_state(network: NetworkFile, name: NodeName, address: Address) -> tuple[str, str]:
    """Try to take the ports of a process that does not answer."""
    places = [("peer", address)]
    user = next((node.user for node in network.nodes if node.name == name), None)
    if user is not None:
        places.append(("user", resolve(host_and_port(user))))
    for port_name, place in places:
        try:
            UdpSocket(place, owner=name, port_name=port_name).close()
        except PortUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.EADDRNOTAVAIL:
                return AWAY, _away(place)
            return BLOCKED, str(error)
    return FREE, ""


def _away(place: Address) -> str:
    """Return the likely cause why a process on another machine does not answer."""
    with socket.socket(
        socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM
    ) as knocker:
        try:
            knocker.connect(place)
        except OSError as error:
            return f"no way leads to that machine ({error.strerror}): look at the address, the net"
    return (
        "it does not answer from that machine: is its process started there (qstack node), and "
        "does a firewall let UDP through?"
    )


def _written(network: NetworkFile, name: NodeName) -> str:
    if name == WORLD and network.world is not None:
        return network.world.address
    if any(host.name == name for host in network.hosts):
        return network.host(name).address
    return network.node(name).address
