"""What a station's status says of its analyser, asked for over the user port."""

from __future__ import annotations

import json
from math import sqrt
from typing import Any

from qstack.messages.application import AskStatus
from qstack.testing import Party, terms
from tests.whole.rig import ALPHA, EFFICIENCY, Lab, Rig


def ask(rig: Rig, party: Party, times: int = 1) -> list[dict[str, Any]]:
    before = len(party.statuses)
    for _ in range(times):
        party.say(AskStatus(party.reference()))
    rig.run(lambda: len(party.statuses) == before + times)
    return [json.loads(text) for text in party.statuses[before:]]


def watcher(rig: Rig) -> Party:
    party = Party(rig.heap, "watcher", "station")
    rig.net.user(party.name, ["station"], party.listen)
    rig.run(lambda: party.reached)
    return party


def test_status_counts_attempts_singles_and_heralds_of_the_link() -> None:
    """300 pairs; attempts and heralds are the world's, singles within 4 binomial errors.

    A detector clicks with probability a (1 - a) eta + a^2 (eta^2 / 2 + eta (1 - eta)): half of what
    one bright end sends, and of two photons (visibility 1) both or none.
    """
    rig = Rig(Lab(), seed=81)
    party = watcher(rig)
    (status,) = ask(rig, party)
    nothing = {"attempts": 0, "singles": [0, 0], "heralds": {}}
    assert status["links"]["ab"]["analyser"] == nothing
    rig.alice.keep(terms("bob", 300))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    (status,) = ask(rig, party)
    told = status["links"]["ab"]["analyser"]
    assert told["attempts"] == rig.net.world.attempted("ab")
    heralds = rig.net.world.heralded("ab")
    assert told["heralds"] == {f"{clicks:#b}": count for clicks, count in heralds.items()}
    assert sum(heralds.values()) >= 300
    one = ALPHA * (1 - ALPHA) * EFFICIENCY
    both = ALPHA**2 * (EFFICIENCY**2 / 2 + EFFICIENCY * (1 - EFFICIENCY))
    p = one + both
    error = sqrt(told["attempts"] * p * (1 - p))
    for count in told["singles"]:
        assert abs(count - told["attempts"] * p) < 4 * error


def test_questions_that_come_together_share_one_answer_and_all_are_answered() -> None:
    rig = Rig(Lab(), seed=82)
    party = watcher(rig)
    rig.alice.keep(terms("bob", 20))
    answers = ask(rig, party, times=5)
    assert len(answers) == 5
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
