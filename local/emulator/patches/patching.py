"""Functions that replace parts of ministack, and fail when the part to replace is missing."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


class MissingPatchPoint(Exception):
    """The installed ministack lacks a name that a patch replaces or uses."""


def stock(owner: ModuleType | type, name: str) -> Any:
    """The function or class `owner.name` as ministack ships it."""
    try:
        return getattr(owner, name)
    except AttributeError:
        raise MissingPatchPoint(f"{owner.__name__}.{name} is not in this ministack") from None


def patch(owner: ModuleType | type, name: str) -> Callable[[Any], Any]:
    """Decorator: replaces `owner.name` with the decorated function or class."""
    stock(owner, name)

    def replace(replacement: Any) -> Any:
        setattr(owner, name, replacement)
        return replacement

    return replace


def require(owner: ModuleType | type, *names: str) -> None:
    """Check that `owner` has the private names that a patch uses."""
    for name in names:
        stock(owner, name)
