"""The windows of a link, as one of its ends keeps to them by its station's word.

The station counts the present or the next window in cycles and says so with each reply, with how
far into a period of the windows it is. When the link opens by the end's own estimate of the cycle
decides only when it begins to arm, a little ahead: the emitter's commands name the first cycle
and the one before which they end. Where the window is over and no other one is known, the end
waits for the station's word, and asks for it if there is something to do.
"""

from __future__ import annotations

from typing import Any, cast

import attrs

from qstack.errors import RemoteProtocolError
from qstack.messages.physical import ArmReply, Verdict
from qstack.physical.cycles import CycleEstimate
from qstack.physical.service import LinkParameters, Serve, WindowSeen
from qstack.units import Instant
from qstack.windows import Windows

LEAD = 8
"""An end arms ahead by this part of `confirm_ns`, and the way of light to the station and back."""


def check_window(reply: ArmReply) -> None:
    """Raise RemoteProtocolError for cycles that are no window."""
    opens, closes = reply.opens_cycle, reply.closes_cycle
    none = opens == closes == 0
    if not (none or 0 <= opens < closes < 1 << 62) or not 0 <= reply.phase_ns < 1 << 62:
        raise RemoteProtocolError(f"a window of the cycles {opens} to {closes}")


class Opening:
    """When one end may work; :attr:`known` and :attr:`shut` as of the latest :meth:`look`."""

    __slots__ = (
        *("_always", "_cycle_ns", "_estimate", "_lead_ns", "_period", "_promised", "_told"),
        *("_tolerance_ns", "_window", "_windows", "known", "shut"),
    )

    def __init__(self, parameters: LinkParameters, windows: Windows) -> None:
        self._windows = windows
        self._cycle_ns = parameters.cycle_ns
        way_ns = max(end.delay_ns for end in parameters.ends)
        self._lead_ns = parameters.confirm_ns // LEAD + 2 * way_ns
        self._tolerance_ns = max(parameters.confirm_ns, parameters.cycle_ns)
        self._estimate = CycleEstimate(parameters.cycle_ns)
        self._window: tuple[int, int] | None = None
        self._always = False
        self._period: Instant | None = None
        self._told: Instant | None = None
        self.shut = True
        self.known = False
        """Whether the window has not passed: it is now, or is to come."""
        self._promised = False

    @property
    def lost(self) -> bool:
        """Whether no window is known, and the station does not know that it has to tell of one."""
        return not self.known and not self._promised

    def forget(self) -> None:
        """Another life of the station: nothing is known of its windows."""
        self._estimate.forget()
        self._window = self._period = self._told = None
        self._always, self.shut, self.known = False, True, False
        self._promised = False

    def told(self, reply: ArmReply, *, answers: bool, now: Instant) -> WindowSeen | None:
        """Take what a reply says of windows; return what is news of their periods.

        `answers`: it is the answer to the present arm.
        """
        if reply.verdict is Verdict.REFUSED and not reply.closes_cycle:
            return None
        if not reply.closes_cycle:
            self._always = self._always or answers
            return None
        self._always = False
        self._window = (reply.opens_cycle, reply.closes_cycle)
        self._promised = reply.cycle >= reply.closes_cycle
        self._estimate.heard(reply.epoch, reply.cycle, now)
        return self._phase(reply.phase_ns % self._windows.period_ns, now)

    def _phase(self, phase_ns: int, now: Instant) -> WindowSeen | None:
        """Words are late: of two that differ little the one of an earlier beginning counts.

        It is told again where it is further from what was told than the tolerance: slow drift adds
        up. Periods are the station's computer's: when the hardware's clock began is all one.
        """
        period = self._windows.period_ns
        began = now - phase_ns
        if self._period is not None:
            moved = (began - self._period + period // 2) % period - period // 2
            if abs(moved) <= self._tolerance_ns:
                began = self._period + min(moved, 0)
            if self._told is not None and abs(began - self._told) <= self._tolerance_ns:
                self._period = began
                return None
        self._period = self._told = began
        return WindowSeen(began)

    def look(self, now: Instant) -> bool:
        """Let time pass; return whether the link opened or closed for this end."""
        former = self.shut, self.known
        if self._always:
            self.shut, self.known = False, True
        else:
            begins, ends = self._bounds()
            self.known = begins is not None and ends is not None and now < ends
            self.shut = not self.known or begins is None or now < begins
        return former != (self.shut, self.known)

    def _bounds(self) -> tuple[Instant | None, Instant | None]:
        began = self._estimate.began
        if self._window is None or began is None:
            return None, None
        opens, closes = (began + cycle * self._cycle_ns for cycle in self._window)
        return opens - self._lead_ns, closes

    @property
    def due(self) -> Instant | None:
        """When to look again."""
        begins, ends = self._bounds()
        if self._always or not self.known:
            return None
        return begins if self.shut else ends

    def clipped(self, order: Serve) -> Serve | None:
        """Return the part of an order that lies in the present window; None while it is shut."""
        if self._always:
            return order
        if self.shut or self._window is None:
            return None
        begin, end = max(order.begin, self._window[0]), self._window[1]
        if order.end:
            end = min(end, order.end)
        if begin >= end:
            return None
        # The type checker does not see that our records are attrs classes.
        part: Serve = attrs.evolve(cast(Any, order), begin=begin, end=end)
        return part
