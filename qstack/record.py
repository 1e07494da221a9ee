"""Records: the immutable values of which messages, events, actions and parameters are made."""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

import attrs

T = TypeVar("T")

_frozen = False


def freeze_records(frozen: bool = True) -> None:
    """Make the records defined from now on immutable at run time too (slow; for tests)."""
    global _frozen
    _frozen = frozen


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def record(cls: type[T]) -> type[T]:
    """Declare an immutable record: frozen for the type checker, cheap at run time.

    A truly frozen attrs class costs three times as much to build; :func:`freeze_records`
    makes records frozen at run time where tests want to be sure that nobody writes to one.
    """
    if _frozen:
        return attrs.frozen(cls, weakref_slot=False)
    # A record that is often looked up by may bring a quicker hash of its own.
    own = "__hash__" in vars(cls)
    return attrs.define(cls, unsafe_hash=None if own else True, weakref_slot=False)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def payload(cls: type[T]) -> type[T]:
    """Declare a record that travels inside messages but is none itself."""
    return record(cls)


def described(cls: Any, hints: dict[str, str], defaults: dict[str, Any]) -> None:
    """Give a plain class what attrs, the codec and copies ask of a record's class.

    The compiled build (ADR 0012) gets each record as a plain class with the methods that attrs
    would have made, for of a class with a decorator its compiler makes no machine code. The rest is
    told here, once, when the module is loaded. `hints` are the annotations of the fields in
    order, `defaults` the values of those that have one.
    """
    plan = {"__annotations__": hints, "__module__": cls.__module__, **defaults}
    made: Any = attrs.define(type(cls.__name__, (), plan))
    names = tuple(hints)

    def parts(one: Any) -> tuple[Any, ...]:
        return cls, tuple([getattr(one, name) for name in names])

    def told(one: Any) -> str:
        values = [f"{name}={value!r}" for name, value in zip(names, parts(one)[1], strict=True)]
        return f"{cls.__qualname__}({', '.join(values)})"

    cls.__annotations__ = hints
    known: dict[str, Any] = {
        "__attrs_attrs__": made.__attrs_attrs__,
        "__match_args__": names,
        "__repr__": told,
        "__reduce__": parts,
    }
    if not names:
        known["__eq__"] = lambda self, other: type(other) is cls
        known["__hash__"] = lambda self: hash(cls.__qualname__)
    for name in known.keys() - vars(cls).keys():
        setattr(cls, name, known[name])
