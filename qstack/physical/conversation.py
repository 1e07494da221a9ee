"""What a node hears from its station, checked, and fed to the matching.

Every check comes before the first change, so that a senseless message leaves no trace.
"""

from __future__ import annotations

from typing import Any

from qstack.errors import RemoteProtocolError
from qstack.messages.physical import ArmReply, Beacon, Herald, Verdict
from qstack.physical.arming import Arming
from qstack.physical.attempts import Emission
from qstack.physical.matching import MAX_CYCLE, Matching, Resolved
from qstack.physical.opening import check_window
from qstack.physical.service import LinkParameters
from qstack.units import Instant, LinkName


class Conversation:
    """One node's talk with its station: the arm that it sent, the successes that it heard of."""

    __slots__ = (
        *("_asked_at", "_confirm_ns", "_link", "arming", "epoch", "held_heralds", "matching"),
        *("queries", "too_early"),
    )

    def __init__(self, parameters: LinkParameters) -> None:
        self._link = parameters.name
        self._confirm_ns = parameters.confirm_ns
        self.arming = Arming(parameters.name)
        self.matching = Matching(parameters.modes, 2 * parameters.confirm_ns)
        self.too_early = 0
        self.queries = 0
        self.held_heralds = 0
        self.epoch = 0
        self._asked_at: Instant | None = None

    def ask_at(self) -> Instant | None:
        """When to ask what became of the oldest emission; None where nothing is open."""
        opened = self.matching.opened
        if not opened or self.arming.silent:
            return None
        since = next(iter(opened.values()))
        asked_at = self._asked_at
        if asked_at is not None and asked_at > since:
            since = asked_at
        return since + self._confirm_ns

    def begin(self) -> list[Emission]:
        """A life of the station that was not known before: everything counts from its word."""
        self.epoch = 0
        return self.matching.begin(0)

    def end(self) -> list[Emission]:
        """The station is out of reach: what it had not decided is void."""
        self._asked_at = None
        return self.matching.begin(self.matching.seen)

    def reply(self, reply: ArmReply, now: Instant) -> list[Emission]:
        """Take a reply; return the emissions that are void by it."""
        arming, matching = self.arming, self.matching
        first = not arming.based
        rewound = not first and reply.epoch != self.epoch
        told = reply.unconfirmed
        # Successes of a former count of cycles may be of any cycle.
        horizon = MAX_CYCLE - 1 if reply.epoch > 0 else reply.cycle
        if reply.link != self._link:
            raise self._misplaced(reply.link)
        arming.check(reply)
        check_window(reply)
        if not (0 if first else self.epoch) <= reply.epoch < MAX_CYCLE:
            raise RemoteProtocolError(f"epoch {reply.epoch} after epoch {self.epoch}")
        matching.check(reply, told, horizon, reply.last_sequence if first else arming.limit)
        arming.handle(reply)
        matching.hear(horizon)
        told_from = told[0].sequence if told else reply.last_sequence + 1
        void: list[Emission] = []
        if first:
            matching.base(told_from - 1)
            arming.seen_from = told_from - 1
        self.epoch = reply.epoch
        before = matching.known
        matching.tell(told, now)
        matching.lose(told_from - 1)
        if rewound:
            # After the successes, which may be of the former count.
            matching.rewind(reply.last_sequence)
            arming.first_cycle = 0
            answered = reply.number == arming.number
            arming.trusted = answered and reply.verdict is not Verdict.REFUSED
        if reply.verdict is Verdict.ACCEPT and reply.number == arming.number:
            arming.first_cycle = reply.first_cycle
        void += matching.decide(reply.last_sequence, reply.decided_cycle)
        if told:
            arming.told_again(told[0].sequence)
        if before < matching.known < reply.last_sequence:
            self.ask(now)
        return void

    def word(self, message: Herald | Beacon, now: Instant) -> list[Emission]:
        """Take a herald or a beacon; return the emissions that are void by it."""
        arming, matching = self.arming, self.matching
        herald = message if type(message) is Herald else None
        told = () if herald is None else herald.successes
        if message.link != self._link:
            raise self._misplaced(message.link)
        if arming.silent:
            raise RemoteProtocolError("a herald, but there is no station now")
        if not arming.based:
            self.too_early += 1
            return []
        if herald is not None and herald.epoch != self.epoch:
            # Of another count of cycles: the reply, which comes with it, says the same again.
            self.held_heralds += 1
            if herald.epoch > self.epoch:
                self.ask(now)
            return []
        matching.check(message, told, message.cycle, arming.limit)
        matching.hear(message.cycle)
        void: list[Emission] = []
        if herald is not None:
            if not arming.standing:
                for success in told:
                    arming.handle(success)
            matching.tell(told, now)
            if herald.voids:
                void = matching.void(herald.voids)
        void += matching.decide(message.last_sequence, message.decided_cycle)
        if matching.known < message.last_sequence:
            self.ask(now)
        return void

    def resolve(self, now: Instant) -> Resolved | None:
        """Return the next success if it is settled; the station waits until it is confirmed."""
        resolved = self.matching.resolve(now)
        if resolved is not None:
            self.arming.awaited = True
        return resolved

    def report(self) -> dict[str, Any]:
        """What was asked for and heard, for people."""
        return {
            **self.arming.report(),
            "last_sequence": self.matching.seen,
            "skipped": self.matching.skipped,
            "queries": self.queries,
            "too_early": self.too_early,
            "held_heralds": self.held_heralds,
        }

    def ask(self, now: Instant) -> bool:
        """Ask for a reply, unless one is on its way; return whether the arm must leave."""
        self._asked_at = now
        if not self.arming.ask():
            return False
        self.queries += 1
        return True

    def _misplaced(self, link: LinkName) -> RemoteProtocolError:
        return RemoteProtocolError(f"a message of link {link!r}")
