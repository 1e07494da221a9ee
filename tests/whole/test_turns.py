"""Machines that lead back to each other within one step keep the order of what they decided."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.stack.turns import Turns


class Recorded:
    """A machine whose step of `first` asks for `later` above, and for `nested` below, then acts."""

    def __init__(self) -> None:
        self.turns = Turns(self.step)
        self.done: list[str] = []

    def step(self, event: Any, now: int) -> list[Any]:
        if event == "first":
            out = self.turns.after("later", now)
            out += self.turns.inside("nested", now)
            self.done.append("first")
            return [*out, "first"]
        self.done.append(event)
        return [event]


def test_what_is_asked_for_inside_a_step_comes_after_all_that_the_step_decided() -> None:
    machine = Recorded()
    assert machine.turns.after("first", 0) == ["nested", "first", "later"]
    assert machine.done == ["nested", "first", "later"]


def test_a_step_from_below_too_lets_requests_from_above_wait_for_its_end() -> None:
    machine = Recorded()
    assert machine.turns.inside("first", 0) == ["nested", "first", "later"]
    assert machine.turns.after("alone", 0) == ["alone"]


def test_a_step_that_raises_leaves_the_turn_free() -> None:
    def refuse(event: Any, now: int) -> list[Any]:
        if event == "bad":
            raise ValueError(event)
        return [event]

    turns = Turns(refuse)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            turns.after("bad", 0)
    assert turns.after("good", 0) == ["good"]
