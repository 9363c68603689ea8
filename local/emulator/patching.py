"""How the mends are put into ministack: one place, which never fails silently."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


class MissingPatchPoint(Exception):
    """The installed ministack has no such name: a mend would have had no effect."""


def stock(owner: ModuleType | type, name: str) -> Any:
    """The thing called `name` in ministack's `owner`, as ministack ships it."""
    try:
        return getattr(owner, name)
    except AttributeError:
        raise MissingPatchPoint(f"{owner.__name__}.{name} is not in this ministack") from None


def mend(owner: ModuleType | type, name: str) -> Callable[[Any], Any]:
    """Decorator: the decorated function takes the place of `owner.name`."""
    stock(owner, name)

    def put_in_place(replacement: Any) -> Any:
        setattr(owner, name, replacement)
        return replacement

    return put_in_place


def require(owner: ModuleType | type, *names: str) -> None:
    """Check that the private names which a mend calls are there."""
    for name in names:
        stock(owner, name)
