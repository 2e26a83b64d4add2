# SPDX-License-Identifier: MIT OR Apache-2.0

"""A mounted pool: its query file, its paths, its spaces."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

from .errors import QueryError
from .numbers import Element
from .space import Space

#: Below the mount point.
QUERY = ".vexfs/query"
#: How much is read at once.
_PIECE = 1 << 20


class Pool:
    """A pool, mounted on a directory. It holds nothing open, and may be used by several threads."""

    def __init__(self, root: Union[str, PathLike[str]]) -> None:
        #: The mount point.
        self.root = Path(os.path.abspath(root))
        self._real = os.path.realpath(root)

    def __repr__(self) -> str:
        return f"Pool({str(self.root)!r})"

    def ask(self, request: Union[Mapping[str, Any], bytes]) -> dict[str, Any]:
        """Sends one request of docs/VECTORS.md, or one in compact form, and returns the answer. Raises QueryError if it is
        refused."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        path = self.root / QUERY
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise QueryError(
                errno.EOPNOTSUPP,
                f"{self.root} has no {QUERY}: mount a pool there; through FUSE, without 'writeback'",
            ) from None
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            parts = []
            while part := os.read(descriptor, _PIECE):
                parts.append(part)
        finally:
            os.close(descriptor)
        answer: dict[str, Any] = json.loads(b"".join(parts))
        refused = answer.get("error")
        if refused:
            raise QueryError(refused["errno"], refused["message"])
        return answer

    def inside(self, path: Union[str, PathLike[str]]) -> str:
        """What a path below the mount point, or relative to it, is inside the pool."""
        text = self._relative(path)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{os.fsencode(text)!r} is not UTF-8: only put and get of one file take such names") from None
        return "/" + text

    def outside(self, path: Union[str, PathLike[str]]) -> Path:
        """Where a file is for system calls, whose path is below the mount point or relative to it."""
        return self.root / self._relative(path)

    def _relative(self, path: Union[str, PathLike[str]]) -> str:
        plain = os.path.normpath(os.path.join(self.root, path))
        for root in (str(self.root), self._real):
            if plain == root:
                return ""
            if plain.startswith(root.rstrip("/") + "/"):
                return plain[len(root.rstrip("/")) + 1 :]
        raise ValueError(f"{os.fspath(path)} is not below {self.root}")

    def space(self, name: str) -> Space:
        """The space with a name. Raises QueryError if there is none."""
        for document in self._documents():
            if document["name"] == name:
                return Space(self, document)
        raise QueryError(errno.ENOENT, f"{self.root} has no space {name!r}")

    def spaces(self) -> list[Space]:
        """All spaces."""
        return [Space(self, document) for document in self._documents()]

    def _documents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask({"op": "spaces"})["spaces"]
        return found

    def create_space(
        self,
        name: str,
        dimensions: int,
        *,
        metric: str = "cosine",
        element: Union[Element, str] = Element.F32,
        effort: Optional[int] = None,
        fields: Optional[Mapping[str, str]] = None,
    ) -> Space:
        """Makes a space. `fields` are attributes that searches know: `{"user.lang": "filter", "user.title": "text"}`."""
        request: dict[str, Any] = {
            "op": "create_space",
            "name": name,
            "dimensions": dimensions,
            "metric": metric,
            "element": Element(element).value,
        }
        if effort is not None:
            request["effort"] = effort
        if fields:
            request["fields"] = [{"name": field, "use": use} for field, use in fields.items()]
        self.ask(request)
        return self.space(name)

    def drop_space(self, name: str) -> None:
        """Removes a space and all its vectors."""
        self.ask({"op": "drop_space", "name": name})

    def flush(self) -> None:
        """Returns when everything is durable."""
        self.ask({"op": "flush"})
