"""What people and tools get to see: tables, a progress bar, JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from qstack.bell import NAMES
from qstack.link.budget import Budget
from qstack.programs.figures import QUANTILES
from qstack.programs.pairs import PairRecord, PairsReport
from qstack.programs.tomography import AXES
from qstack.units import NodeName
from qstack.windows import in_words

OnPair: TypeAlias = Callable[[PairRecord], None]


@contextmanager
def json_lines(write: OnPair) -> Iterator[OnPair]:
    """Write every pair as it comes."""
    yield write


@contextmanager
def progress(title: str, count: int, done: int = 0) -> Iterator[Callable[[Any], None]]:
    """Show a progress bar on standard error while the block lasts, if that is a terminal.

    What is yielded advances it by one, whatever it is called with.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=count, completed=done)

        def advance(_: Any) -> None:
            bar.advance(task)

        yield advance


# --- pairs --------------------------------------------------------------------------------


def pair_fields(item: PairRecord) -> dict[str, Any]:
    """Return a pair in JSON's types."""
    return {
        "pair": str(item.pair),
        "bell": NAMES[item.info.bell],
        "bell_index": item.info.bell,
        "axes": list(item.axes),
        "outcomes": list(item.outcomes),
        "setting": item.info.setting,
        "goodness": item.info.goodness,
        "goodness_low": item.info.goodness_low,
        "hops": item.info.hops,
        "age_ns": item.info.age_ns,
        "latency_ns": item.latency_ns,
    }


def pairs_summary(found: PairsReport) -> dict[str, Any]:
    """Return a report in JSON's types."""
    names = [f"p{round(100 * q)}" for q in QUANTILES]
    return {
        "wanted": found.wanted,
        "delivered": list(found.delivered),
        "complete": found.complete,
        "used": found.used,
        "expired": found.expired,
        "bells": dict(found.bells),
        "correlators": dict(zip(AXES, found.correlators, strict=True)),
        "fidelity": found.fidelity,
        "fidelity_error": found.fidelity_error,
        "fidelity_raw": found.fidelity_raw,
        "predicted_fidelity": found.predicted_fidelity,
        "predicted_fidelity_low": found.predicted_fidelity_low,
        "promised_fidelity": found.promised_fidelity,
        "hops": {str(hops): count for hops, count in found.hops},
        "age_ns": dict(zip(names, found.age_ns, strict=False)),
        "oldest_ns": dict(zip(names, found.oldest_ns, strict=False)),
        "discarded": found.discarded,
        "in_advance": found.in_advance,
        "rate_hz": found.rate_hz,
        "predicted_rate_hz": found.predicted_rate_hz,
        "latency_ns": dict(zip(names, found.latency_ns, strict=False)),
        "interval_ns": dict(zip(names, found.interval_ns, strict=False)),
        "elapsed_ns": found.elapsed_ns,
        "error": found.error,
    }


def show_each(found: PairsReport) -> None:
    """Print a table of the pairs of which both ends know, in the order in which they came."""
    table = Table(title="pairs", title_justify="left")
    for column in ("end-to-end id", "Bell state", "goodness", "at least", "hops", "age, ms"):
        table.add_column(column, justify="left" if column in ("end-to-end id",) else "right")
    for item in found.records:
        info = item.info
        table.add_row(
            str(item.pair),
            f"{NAMES[info.bell]} ({info.bell})",
            f"{info.goodness:.4f}",
            f"{info.goodness_low:.4f}",
            str(info.hops),
            _milliseconds((info.age_ns,)),
        )
    Console(file=sys.stdout).print(table)


def show_pairs(found: PairsReport, title: str) -> None:
    """Print a report as a table: measured against predicted."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("predicted", justify="right")
    counts = f"{found.delivered[0]} + {found.delivered[1]}"
    table.add_row("pairs, both ends known", str(found.complete), str(found.wanted))
    table.add_row("OKs, at either end", counts, "")
    table.add_row("expired", str(found.expired), "")
    hops = ", ".join(f"{hops} links: {count}" for hops, count in found.hops)
    table.add_row("from end to end", hops or "-", "")
    states = ", ".join(f"{name} {count}" for name, count in found.bells if count)
    table.add_row("heralded states", states or "-", "")
    fidelity = "-"
    if found.fidelity is not None and found.fidelity_error is not None:
        fidelity = f"{found.fidelity:.4f} ± {found.fidelity_error:.4f}"
    predicted = _number(found.predicted_fidelity, "{:.4f}")
    low = _number(found.predicted_fidelity_low, "{:.4f}")
    table.add_row(f"fidelity ({found.used} used)", fidelity, f"{predicted}, at least {low}")
    if found.promised_fidelity is not None:
        table.add_row("  promised by the route", "", f"{found.promised_fidelity:.4f} on average")
    raw = _number(found.fidelity_raw, "{:.4f}")
    table.add_row("  readout not corrected", raw, "")
    for axis, value in zip(AXES, found.correlators, strict=True):
        table.add_row(f"  <{axis}{axis}>, as of Phi+", _number(value, "{:+.4f}"), "")
    rate = _number(found.predicted_rate_hz, "at most {:,.1f}")
    table.add_row("pairs per second", _number(found.rate_hz, "{:,.1f}"), rate)
    quantiles = ", ".join(f"p{round(100 * q)}" for q in QUANTILES)
    table.add_row(f"request to OK, ms: {quantiles}", _milliseconds(found.latency_ns), "")
    table.add_row(f"OK to OK, ms: {quantiles}", _milliseconds(found.interval_ns), "")
    table.add_row(f"age of a pair at its OK, ms: {quantiles}", _milliseconds(found.age_ns), "")
    if found.oldest_ns:
        oldest = _milliseconds(found.oldest_ns)
        table.add_row(f"age of the oldest of a set, ms: {quantiles}", oldest, "")
    if found.in_advance is not None and found.discarded is not None:
        read, lost = (f"{a} + {b}" for a, b in (found.in_advance, found.discarded))
        table.add_row("read before the notice, at either end", read, "")
        table.add_row("halves of no pair", lost, "")
    table.add_row("lab time, s", f"{found.elapsed_ns / 1e9:.3f}", "")
    Console(file=sys.stdout).print(table)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _milliseconds(values: tuple[int, ...]) -> str:
    return ", ".join(f"{value / 1e6:.3f}" for value in values) or "-"


# --- status -------------------------------------------------------------------------------


def show_status(answers: Mapping[NodeName, dict[str, Any] | str]) -> None:
    """Print a table of nodes, one of links and one of neighbours; then who is silent."""
    console = Console(file=sys.stdout)
    known = {name: answer for name, answer in answers.items() if isinstance(answer, dict)}
    nodes = Table("node", "kind", "up for, s", "memories free", "users' counters", title="nodes")
    links = Table("node", "link", "room", "counters", title="links")
    peers = Table("node", "neighbour", "role", "state", "round trip, ms", title="neighbours")
    for name, answer in known.items():
        slots = answer.get("slots", {})
        free = ""
        if slots:
            free = f"{slots.get('communication_free')} of {slots.get('communication')}"
        up_s = f"{answer.get('now_ns', 0) / 1e9:.1f}"
        counters = _counters(answer.get("application", {}))
        draining = answer.get("network", {}).get("draining", {"node": False, "links": []})
        kind = str(answer.get("kind", "")) + (", draining" if draining["node"] else "")
        nodes.add_row(name, kind, up_s, free, counters)
        for link in draining["links"]:
            links.add_row(name, link, "network", "draining: takes nothing new")
        for link, rooms in answer.get("links", {}).items():
            if rooms.get("closed_ns"):
                links.add_row(name, link, "link", f"closed for {in_words(rooms['closed_ns'])}")
            for room, fields in rooms.items():
                if isinstance(fields, dict):
                    shown = _clicks(fields) if room == "analyser" else _counters(fields)
                    links.add_row(name, link, room, shown)
        for peer, fields in answer.get("neighbours", {}).items():
            state = "up" if fields.get("up") else "no contact"
            trip = fields.get("rtt_ns")
            shown = f"{trip / 1e6:.3f}" if isinstance(trip, int | float) else "-"
            peers.add_row(name, peer, str(fields.get("role", "")), state, shown)
    if known:
        for table in (nodes, links, peers):
            console.print(table)
    show_silent(answers, console)


def show_silent(answers: Mapping[NodeName, dict[str, Any] | str], console: Console) -> None:
    """Print who did not answer, and why."""
    for name, silent in answers.items():
        if isinstance(silent, str):
            console.print(f"{name}: {silent}", markup=False, highlight=False)


def _counters(fields: dict[str, Any]) -> str:
    """Return the plain values that are not zero or empty; lists and tables are for --json."""
    return ", ".join(
        f"{key} {value}"
        for key, value in fields.items()
        if isinstance(value, str | int | float) and value
    )


def _clicks(fields: dict[str, Any]) -> str:
    """Return what an analyser counted: attempts, clicks by detector, heralds by pattern."""
    if not fields:
        return "no counters"
    singles = " ".join(map(str, fields.get("singles", ())))
    heralds = ", ".join(f"{key}: {count}" for key, count in fields.get("heralds", {}).items())
    return f"attempts {fields.get('attempts', 0)}, singles {singles}, heralds {heralds or 'none'}"


# --- a link's budget ----------------------------------------------------------------------


def budget_fields(found: Budget) -> dict[str, Any]:
    """Return a budget in JSON's types."""
    return {
        "link": found.link,
        "measurement": found.measurement,
        "cycle_ns": found.cycle_ns,
        "modes": found.modes,
        "arms": [
            {
                "node": arm.node,
                "rows": [
                    {"name": r.name, "factor": r.factor, "loss_db": r.loss_db, "left": r.left}
                    for r in arm.rows
                ],
            }
            for arm in found.arms
        ],
        "settings": [
            {
                "id": point.id,
                "window_ps": point.window_ps,
                "success": point.success,
                "rate_hz": point.rate_hz,
                "fidelity": point.fidelity,
            }
            for point in found.points
        ],
    }


def show_budget(found: Budget) -> None:
    """Print a budget: each arm decibel by decibel, then the working points."""
    console = Console(file=sys.stdout)
    for arm in found.arms:
        table = Table(title=f"{found.link}: the photon of {arm.node}", title_justify="left")
        table.add_column("step")
        for column in ("loss, dB", "factor", "left"):
            table.add_column(column, justify="right")
        for row in arm.rows:
            table.add_row(row.name, f"{row.loss_db:.2f}", f"{row.factor:.4g}", f"{row.left:.4g}")
        console.print(table)
    cycle = f"{found.cycle_ns / 1e3:g} us, {found.modes} attempts in each"
    table = Table(
        title=f"{found.link}: {found.measurement}, cycles of {cycle}", title_justify="left"
    )
    table.add_column("working point")
    for column in ("window, ps", "success per attempt", "heralds per second", "fidelity"):
        table.add_column(column, justify="right")
    for point in found.points:
        table.add_row(
            point.id,
            str(point.window_ps),
            f"{point.success:.4g}",
            f"{point.rate_hz:,.1f}",
            f"{point.fidelity:.4f}",
        )
    console.print(table)
