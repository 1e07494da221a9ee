"""What hosts of an event heap said to each other and to their hardware, counted by kind."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qstack.messages.wire import KIND_OF, KINDS, Layer


class Tally:
    """`kinds`: frames by the number of their kind; the others count by record.

    `words`: messages that parties of one process handed each other; `commands` and `reports`:
    either way of the hardware port.
    """

    __slots__ = ("commands", "kinds", "reports", "words")

    def __init__(self) -> None:
        # Dictionaries: counters take longer to count by one.
        self.kinds: dict[int, int] = {}
        self.words: dict[type[Any], int] = {}
        self.commands: dict[type[Any], int] = {}
        self.reports: dict[type[Any], int] = {}

    def by_name(self) -> dict[str, int]:
        """Return all of it, see :attr:`qstack.sim.heap.EventHeap.frames`."""
        counts: Counter[str] = Counter()
        for number, count in self.kinds.items():
            entry = KINDS.get(number)
            layer = Layer.CONTROL if entry is None else entry.layer
            name = "unknown" if entry is None else entry.cls.__name__
            counts[f"{layer.name.lower()}:{name}"] += count
        for cls, count in self.words.items():
            if cls in KIND_OF:
                counts[f"{KIND_OF[cls].layer.name.lower()}:{cls.__name__}"] += count
        for port, records in (("command", self.commands), ("report", self.reports)):
            for cls, count in records.items():
                counts[f"{port}:{cls.__name__}"] += count
        return dict(counts)
