"""Tables of routes and circuits, for people who look at a network that misbehaves."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from qstack.units import NodeName
from qstack.windows import in_words
from qstack_nodes.report import show_silent


def show_routes(answers: Mapping[NodeName, dict[str, Any] | str]) -> None:
    """Print each node's ways, then what each says of its links and who has not heard that.

    `answers`: status by node, or why there is none.
    """
    console = Console(file=sys.stdout)
    routes = {
        name: answer["network"]["routes"]
        for name, answer in answers.items()
        if isinstance(answer, dict)
    }
    if routes:
        console.print(_ways(routes))
        console.print(_links(routes))
    show_silent(answers, console)


def _ways(routes: Mapping[NodeName, Any]) -> Table:
    table = Table(title="ways, the fastest that each node knows", title_justify="left")
    for column in ("from", "to", "by"):
        table.add_column(column)
    for column in ("links", "pairs/s, at most", "fidelity"):
        table.add_column(column, justify="right")
    for name, known in routes.items():
        for to, said in known.items():
            if to == name:
                continue
            way = said.get("way")
            if way is None:
                table.add_row(name, to, "no way", "-", "-", "-")
                continue
            between = " ".join(way[1:-1]) or "directly"
            numbers = f"{said['rate_hz']:,.1f}", f"{said['fidelity']:.4f}"
            table.add_row(name, to, between, str(len(way) - 1), *numbers)
    return table


def _links(routes: Mapping[NodeName, Any]) -> Table:
    """What each node says, in its newest words; who asked has older ones, or none, is behind."""
    newest: dict[NodeName, Any] = {}
    for known in routes.values():
        for name, said in known.items():
            if name not in newest or said["sequence"] > newest[name]["sequence"]:
                newest[name] = said
    table = Table(title="what nodes say of their links", title_justify="left")
    for column in ("node", "trust", "word", "link", "to", "state"):
        table.add_column(column, justify="right" if column in ("trust", "word") else "left")
    table.add_column("reserved", justify="right")
    table.add_column("not heard by")
    for name in sorted(newest):
        said = newest[name]
        word = said["sequence"]
        behind = " ".join(
            who for who, known in routes.items() if known.get(name, {}).get("sequence", 0) < word
        )
        first = (name, str(said["trust"]), str(word))
        for link, view in said["links"].items():
            closed_ns = view.get("closed_ns", 0)
            lost = f"closed for {in_words(closed_ns)}" if closed_ns else "DOWN"
            works = f"up, opens in {in_words(closed_ns)}" if closed_ns else "up"
            state = "draining" if view["draining"] else works if view["up"] else lost
            state += ", node draining" if said["draining"] else ""
            table.add_row(*first, link, view["peer"], state, f"{view['reserved']:.0%}", behind)
            first, behind = ("", "", ""), ""
    return table


def show_circuits(answers: Mapping[NodeName, dict[str, Any] | str]) -> None:
    """Print every circuit with its nodes, and what each of them has done for circuits.

    `answers`: status by node, or why there is none.
    """
    console = Console(file=sys.stdout)
    known = {name: a["network"] for name, a in answers.items() if isinstance(a, dict)}
    members: dict[str, list[tuple[NodeName, Any]]] = {}
    for name, network in known.items():
        for circuit in network["circuits"]:
            members.setdefault(circuit["circuit"], []).append((name, circuit))
    if members:
        console.print(_circuits(members))
    elif known:
        console.print("no circuits")
    if known:
        counters = _counted(each["counters"] for each in known.values())
        table = Table("node", title="done for circuits", title_justify="left")
        for counter in counters:
            table.add_column(counter.replace("_", " "), justify="right")
        for name, network in known.items():
            table.add_row(name, *(str(network["counters"].get(each, 0)) for each in counters))
        console.print(table)
    divided = {name: network["bins"] for name, network in known.items() if network.get("bins")}
    if divided:
        console.print(_bins(divided))
    show_silent(answers, console)


def _counted(told: Iterable[Mapping[str, int]]) -> list[str]:
    """Return the counters of which anybody has counted anything, swaps always: they fit a line."""
    sums: Counter[str] = Counter({"swaps": 1})
    for counters in told:
        sums.update(counters)
    return [name for name, count in sums.items() if count]


def _circuits(members: Mapping[str, list[tuple[NodeName, Any]]]) -> Table:
    table = Table(title="circuits", title_justify="left")
    for column in ("circuit", "node", "role", "state"):
        table.add_column(column)
    for column in ("halves held", "cutoff, ms", "lease left, s"):
        table.add_column(column, justify="right")
    table.add_column("requests")
    for name, parts in members.items():
        path = parts[0][1]["path"]
        shown = name
        for node, part in sorted(parts, key=lambda each: path.index(each[0])):
            cutoff, lease = part["cutoff_ns"], part["lease_ns"]
            table.add_row(
                shown,
                node,
                part["role"],
                "resting" if part["rests"] else part["state"],
                str(part["held"]),
                f"{cutoff / 1e6:.3f}" if cutoff else "-",
                "its own" if lease is None else f"{lease / 1e9:.1f}",
                ", ".join(map(_request, part["requests"])),
            )
            shown = ""
    return table


def _bins(divided: Mapping[NodeName, Any]) -> Table:
    """Who has which bins of each link, as the masters of the links have been told."""
    controller = next(iter(divided.values()))["controller"]
    title = f"bins of links, granted by {controller}"
    lost = [name for name, bins in divided.items() if not bins["there"]]
    if lost:
        title += f", whom {', '.join(lost)} cannot reach"
    table = Table("link", "circuit", "bins", "at the master", title=title, title_justify="left")
    for bins in divided.values():
        for link, runs in bins["links"].items():
            shown = link
            for run in runs:
                begin, end = run["bins"]
                known = "ready" if run["here"] else "not ready yet"
                table.add_row(shown, run["circuit"], f"{begin} to {end - 1}", known)
                shown = ""
            if not runs:
                table.add_row(shown, "nobody", "", "")
    return table


def _request(fields: Mapping[str, Any]) -> str:
    if "state" not in fields:
        return str(fields["request"])
    done = f"{fields['delivered']} of {fields['number']}"
    return f"{fields['request']} {fields['state']} {done}"
