# SPDX-License-Identifier: MIT OR Apache-2.0

"""Filters of searches, joined with `&`, `|` and `~`.

    >>> (under("letters") & ~name("*.bak")).document()
    {'and': [{'under': 'letters'}, {'not': {'name': '*.bak'}}]}
"""

from __future__ import annotations

import datetime
from os import PathLike, fspath
from typing import Any, Callable, Optional, Union

Path = Union[str, "PathLike[str]"]
Time = Union[int, datetime.datetime]


def _as_it_is(path: Path) -> str:
    return fspath(path)


class Filter:
    """Which files. Make one with the functions of this module."""

    def __init__(self, operator: str, value: Any) -> None:
        self._operator = operator
        self._value = value

    def __and__(self, other: Filter) -> Filter:
        return Filter("and", [self, other])

    def __or__(self, other: Filter) -> Filter:
        return Filter("or", [self, other])

    def __invert__(self) -> Filter:
        return Filter("not", self)

    def document(self, inside: Callable[[Path], str] = _as_it_is) -> dict[str, Any]:
        """As a request has it; `inside` says what a path is in the pool."""

        def translated(value: Any) -> Any:
            if isinstance(value, Filter):
                return value.document(inside)
            if isinstance(value, list):
                return [translated(part) for part in value]
            return inside(value) if self._operator == "under" else value

        return {self._operator: translated(self._value)}


def under(directory: Path) -> Filter:
    """Below a directory, or the file itself."""
    return Filter("under", directory)


def name(pattern: str) -> Filter:
    """One of its names is so: `*`, `?`, `[a-z]`, `[!a]`."""
    return Filter("name", pattern)


def owner(uid: int) -> Filter:
    """Of this user."""
    return Filter("owner", uid)


def group(gid: int) -> Filter:
    """Of this group."""
    return Filter("group", gid)


def mode(mask: int, equals: int) -> Filter:
    """These bits of the mode are so."""
    return Filter("mode", {"mask": mask, "is": equals})


def size(least: Optional[int] = None, most: Optional[int] = None) -> Filter:
    """So many bytes, ends included."""
    return Filter("size", _range(least, most))


def modified(first: Optional[Time] = None, last: Optional[Time] = None) -> Filter:
    """Changed in this time, ends included; numbers are nanoseconds since 1970."""
    return Filter("modified", _range(_nanoseconds(first), _nanoseconds(last)))


def xattr(attribute: str, value: Optional[str] = None) -> Filter:
    """An attribute that the space declares is this, or is there."""
    about = {"name": attribute} if value is None else {"name": attribute, "is": value}
    return Filter("xattr", about)


def _range(first: Optional[int], last: Optional[int]) -> dict[str, int]:
    return {name: end for name, end in (("from", first), ("to", last)) if end is not None}


def _nanoseconds(time: Optional[Time]) -> Optional[int]:
    if not isinstance(time, datetime.datetime):
        return time
    since = time.astimezone(datetime.timezone.utc) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
