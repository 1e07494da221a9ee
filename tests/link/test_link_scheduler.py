"""The scheduler as a pure function, the queue by versions, and the table of a request's life."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from qstack.link.queue import Queue
from qstack.link.request import (
    TABLE,
    TERMINAL,
    Closed,
    Committed,
    Counted,
    Dropped,
    Overdue,
    Quiet,
    Refused,
    Removed,
    Reported,
    Request,
    RequestEvent,
    State,
    Stopped,
    Voided,
)
from qstack.link.scheduler import SCHEDULERS, Item, virtual_now, wanted
from qstack.messages.common import RequestId
from qstack.messages.link import FIRST_FLOW, LinkCommit, LinkRemove
from tests.link.link_rig import request

NAMES = sorted(SCHEDULERS)


@st.composite
def queues(draw: st.DrawFn) -> tuple[list[Item], dict[RequestId, int]]:
    items: list[Item] = []
    progress: dict[RequestId, int] = {}
    for position in range(draw(st.integers(0, 6))):
        asked = request(
            "alice",
            draw(st.integers(1, 5)),
            priority=draw(st.integers(0, 2)),
            weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
            atomic=draw(st.booleans()),
        )
        items.append(Item(asked, position, "fast", draw(st.floats(0, 100)), 10.0))
        progress[asked.id] = draw(st.integers(0, asked.number))
    return items, progress


@pytest.mark.parametrize("name", NAMES)
@given(case=queues(), data=st.data())
def test_the_choice_depends_on_the_queue_and_the_counts_alone(
    name: str, case: tuple[list[Item], dict[RequestId, int]], data: st.DataObject
) -> None:
    items, progress = case
    scheduler = SCHEDULERS[name]
    chosen = scheduler.choose(items, progress)
    copy = dict(reversed(progress.items()))
    assert scheduler.choose(tuple(items), copy) == chosen
    if not any(item.request.atomic for item in items):
        assert scheduler.choose(data.draw(st.permutations(items)), progress) == chosen
    hungry = [item for item in items if wanted(item, progress) > 0]
    assert (chosen in hungry) if hungry else chosen is None
    if chosen is not None and hungry:
        begun = [i for i in hungry if i.request.atomic and progress[i.request.id]]
        assert not begun or chosen in begun


def test_strict_priority_takes_the_larger_number_and_then_the_earlier() -> None:
    items = [
        Item(request("alice", 1, priority=p), n, "fast", 0.0, 1.0) for n, p in enumerate([1, 5, 5])
    ]
    assert SCHEDULERS["strict-priority"].choose(items, {}) is items[1]
    assert SCHEDULERS["first-come"].choose(items, {}) is items[0]


@given(st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=2, max_size=4))
def test_weighted_fair_shares_follow_the_weights_within_one_pair(weights: list[float]) -> None:
    items = [
        Item(request("alice", 10**6, weight=w), n, "fast", 0.0, 7.0) for n, w in enumerate(weights)
    ]
    progress = {item.request.id: 0 for item in items}
    for _ in range(300):
        chosen = SCHEDULERS["weighted-fair"].choose(items, progress)
        assert chosen is not None
        progress[chosen.request.id] += 1
    for item in items:
        share = 300 * item.request.weight / sum(weights)
        assert abs(progress[item.request.id] - share) <= len(items)


def test_a_newcomer_is_neither_starved_nor_repaid_under_weighted_fair() -> None:
    queue = Queue()
    progress: dict[RequestId, int] = {}
    old = queue.append(request("alice", 10**6), "fast", 10.0, progress)
    progress[old.request.id] = 500
    new = queue.append(request("bob", 10**6), "fast", 10.0, progress)
    progress[new.request.id] = 0
    for _ in range(100):
        chosen = SCHEDULERS["weighted-fair"].choose(queue.items, progress)
        assert chosen is not None
        progress[chosen.request.id] += 1
    assert progress[new.request.id] in (49, 50, 51)


def test_the_slave_applies_version_after_version_and_nothing_else() -> None:
    master, slave = Queue(), Queue()
    asked = request("alice", 3)
    version = master.next_version()
    item = master.append(asked, "fast", 10.0, {})
    commit = LinkCommit("ab", version, item.position, asked, "fast", item.virtual_start, 10.0)
    slave.follow(commit)
    assert (slave.version, slave.items) == (master.version, master.items)
    for wrong in (commit, LinkRemove("ab", 3, asked.id, ErrorCode.OTHER, "")):
        with pytest.raises(RemoteProtocolError):
            slave.follow(wrong)
        assert (slave.version, slave.items) == (1, master.items)
    slave.retune(asked.id, "fine")
    assert slave.items[0].setting == "fine"
    slave.follow(LinkRemove("ab", 2, asked.id, ErrorCode.OTHER, ""))
    assert (slave.version, len(slave)) == (2, 0)


EVENTS: list[RequestEvent] = [
    Committed(),
    Refused(ErrorCode.REJECTED, "no"),
    Stopped(ErrorCode.TIMEOUT, "late"),
    Dropped(ErrorCode.OTHER, "lost"),
    Removed(3, ErrorCode.TIMEOUT, "late"),
    Counted(),
    Reported((1, 1)),
    Voided(reported=False),
    Closed((1, 1), final=False),
    Quiet(),
    Overdue(),
]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_every_event_in_every_state_is_in_the_table_or_refused(
    state: State, event: RequestEvent
) -> None:
    life = Request(request("alice", 2), state, None)
    if state is State.COMPLETE:
        life.counted = life.reported = 2
    allowed = TABLE[state].get(type(event))
    if allowed is None:
        of_peer = isinstance(event, Committed | Refused | Removed | Closed)
        with pytest.raises(RemoteProtocolError if of_peer else LocalProtocolError):
            life.handle(event)
        assert life.state is state
    else:
        life.handle(event)
        assert life.state in allowed


@pytest.mark.parametrize(("pairs", "verdict"), [(2, State.DONE), (1, State.FAILED)])
@pytest.mark.parametrize("quiet", [False, True])
def test_where_the_last_words_take_too_long_an_end_judges_by_its_own_pairs(
    pairs: int, verdict: State, *, quiet: bool
) -> None:
    """The peer, which was told of them, judges alike: all were delivered, so nothing is late."""
    life = Request(request("alice", 2), State.QUEUED, None)
    for number in range(1, pairs + 1):
        life.handle(Counted())
        life.handle(Reported((1, number)))
    life.handle(Removed(3, ErrorCode.TIMEOUT, "late"))
    if quiet:
        life.handle(Quiet())
    life.handle(Overdue())
    assert life.state is verdict
    assert life.code is ErrorCode.TIMEOUT


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_no_sequence_of_events_leaves_a_terminal_state(events: list[RequestEvent]) -> None:
    life = Request(request("alice", 2), State.PROPOSED, None)
    over = None
    for event in events:
        if life.legal(type(event)):
            life.handle(event)
        if over is not None:
            assert life.state is over
        if life.state in TERMINAL:
            over = life.state


def test_each_state_of_the_table_can_be_reached_from_the_beginning() -> None:
    reached, frontier = {State.PROPOSED}, [State.PROPOSED]
    while frontier:
        for following in TABLE[frontier.pop()].values():
            frontier.extend(following - reached)
            reached |= following
    assert reached == set(State)


# --- flows ----------------------------------------------------------------------------------


def served(counts: dict[int, int], weights: dict[int, float], pairs: int) -> list[int]:
    """Which purposes a weighted fair queue serves, each with so many requests of 8 pairs open."""
    queue, progress, order = Queue(), dict[RequestId, int](), list[int]()
    scheduler = SCHEDULERS["weighted-fair"]

    def add(purpose: int) -> None:
        asked = request("alice", 8, purpose=purpose, weight=weights[purpose])
        queue.append(asked, "fast", 10.0, progress)

    for purpose, count in counts.items():
        for _ in range(count):
            add(purpose)
    for _ in range(pairs):
        item = scheduler.choose(queue.items, progress)
        assert item is not None
        asked = item.request
        order.append(asked.purpose)
        progress[asked.id] = progress.get(asked.id, 0) + 1
        if progress[asked.id] == asked.number:
            add(asked.purpose)
            queue.drop(asked.id)
    return order


def test_a_flow_has_its_weights_share_however_many_requests_of_it_are_open() -> None:
    """Weights 3 to 1, and four requests to one: the first has three pairs of every four."""
    one, other = FIRST_FLOW + 1, FIRST_FLOW + 2
    order = served({one: 1, other: 4}, {one: 3.0, other: 1.0}, 400)
    assert abs(order.count(one) - 300) <= 8
    # Users' requests are no flow: each has a share of its own, 3 to 4 together.
    users = served({1: 1, 2: 4}, {1: 3.0, 2: 1.0}, 400)
    assert users.count(1) < 200


def test_the_requests_of_a_flow_are_served_one_after_the_other() -> None:
    queue, progress = Queue(), dict[RequestId, int]()
    scheduler = SCHEDULERS["weighted-fair"]
    asked = [request("alice", 3, purpose=FIRST_FLOW) for _ in range(3)]
    for each in asked:
        queue.append(each, "fast", 10.0, progress)
    for each in asked:
        for count in (1, 2, 3):
            item = scheduler.choose(queue.items, progress)
            assert item is not None
            assert item.request.id == each.id
            progress[each.id] = count
    assert scheduler.choose(queue.items, progress) is None


def test_a_flow_of_another_end_with_the_same_name_is_another_flow() -> None:
    queue, progress = Queue(), dict[RequestId, int]()
    for origin in ("alice", "bob"):
        asked = request(origin, 3, purpose=FIRST_FLOW)
        item = queue.append(asked, "fast", 10.0, progress)
        assert item.virtual_start == virtual_now(queue.items, progress) == 0.0
