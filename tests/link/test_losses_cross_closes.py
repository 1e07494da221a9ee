"""Losses of the station that cross what the ends tell each other, drawn many at a time."""

from __future__ import annotations

from functools import partial
from random import Random

from qstack.link.lives import LOSSES_LIMIT, Losses
from qstack.link.service import LinkExpired, LinkOutcomeReady, LinkPairReady
from qstack.messages.common import PairKind, RequestId
from qstack.units import MILLISECOND, Chance
from tests.link.link_rig import DELAY, HORIZON, End, Rig, request

ENDS = ("alice", "bob")
SEEDS = 250
"""Before closes said which losses they know of, nine of the first 600 seeds hung."""


def _some(chance: Chance, longest: int) -> int:
    return DELAY // 2 + chance.below(longest)


def _draw(rig: Rig, dice: Random) -> list[RequestId]:
    """Ask, cancel, lose and find the station, and start it again, all by chance."""
    made: list[RequestId] = []

    def pause(longest: int) -> None:
        rig.run(dice.choice([0, 0, dice.randint(0, longest), dice.randint(0, longest)]))

    def flap(longest: int) -> None:
        who = dice.choice(ENDS)
        rig.lose_station(who)
        pause(longest)
        rig.find_station(who)

    for _ in range(dice.randint(1, 5)):
        wanted = request(
            dice.choice(ENDS),
            dice.choice([1, 1, 1, 2, 3, 5]),
            kind=dice.choice(list(PairKind)),
            priority=dice.randint(0, 2),
            consecutive=dice.random() < 0.3,
            store=dice.random() < 0.3,
            final_bell=dice.choice([None, 0, 3]),
            remaining_ns=dice.choice([0, 0, 40 * DELAY]),
        )
        for end in ENDS:
            rig.missing[end].update(dice.sample(range(1, 13), dice.choice([0, 0, 1, 2])))
        made.append(rig.create(wanted))
        pause(10 * DELAY)
        if dice.random() < 0.3:
            rig.cancel(dice.choice(ENDS), dice.choice(made))
        if dice.random() < 0.15:
            rig.restart_station()
        if dice.random() < 0.5:
            flap(10 * DELAY)
            if dice.random() < 0.3:
                pause(3 * DELAY)
                flap(3 * DELAY)
    return made


def _valid(end: End, identifier: RequestId) -> list[tuple[int, int]]:
    """The pairs of a request that were reported and not taken back, in order."""
    oks = (LinkPairReady, LinkOutcomeReady)
    void = {(u.pair.station_boot, u.pair.sequence) for u in end.of(LinkExpired, identifier)}
    named = [
        (ok.info.pair.station_boot, ok.info.pair.sequence)
        for ok in end.ups
        if isinstance(ok, oks) and ok.request == identifier
    ]
    return [key for key in named if key not in void]


def test_requests_end_once_and_alike_however_losses_of_the_station_cross_closes() -> None:
    ended = 0
    for seed in range(SEEDS):
        dice = Random(seed)
        rig = Rig(
            seed,
            test_rate=0.2,
            scheduler=dice.choice(["first-come", "strict-priority", "weighted-fair"]),
        )
        delays = rig.chance.fork("delays")
        rig.wire_ns = partial(_some, delays, 8 * DELAY)
        rig.herald_ns = partial(_some, delays, 4 * DELAY)
        rig.success = 0.5
        made = _draw(rig, dice)
        rig.run(100 * MILLISECOND + HORIZON)
        rig.no_leak()
        for identifier in made:
            creator = rig.ends[identifier.origin]
            other = rig.ends["bob" if identifier.origin == "alice" else "alice"]
            assert len(creator.terminal(identifier)) == 1, f"seed {seed}: {identifier} hangs"
            if not other.terminal(identifier):
                assert _valid(creator, identifier) == [], f"seed {seed}: {identifier}"
                continue
            ended += 1
            one, two = creator.terminal(identifier), other.terminal(identifier)
            assert len(two) == 1, f"seed {seed}: {identifier} ended twice"
            assert type(one[0]) is type(two[0]), f"seed {seed}: {one} and {two}"
            assert _valid(creator, identifier) == _valid(other, identifier), f"seed {seed}"
            assert _valid(creator, identifier) == sorted(_valid(creator, identifier))
    assert ended > 2 * SEEDS


def test_a_close_stands_unless_a_loss_it_does_not_know_of_voids_its_last_pair() -> None:
    losses = Losses()
    assert losses.stand((11, 5), 0)
    losses.told(11, 4)
    assert not losses.stand((11, 5), 0)
    assert losses.stand((11, 4), 0)
    assert losses.stand((12, 5), 0)
    assert losses.stand((11, 5), 1)
    losses.told(11, 4)
    assert losses.stand((11, 5), 99)


def test_losses_that_nobody_heard_do_not_fill_the_memory() -> None:
    losses = Losses()
    for _ in range(10 * LOSSES_LIMIT):
        losses.told(11, 4)
    assert not losses.stand((11, 5), 0)
    assert losses.stand((11, 5), 10 * LOSSES_LIMIT)
