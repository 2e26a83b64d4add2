# SPDX-License-Identifier: MIT OR Apache-2.0

"""What can go wrong beyond what system calls say."""

from __future__ import annotations

from typing import NamedTuple


class QueryError(OSError):
    """A request was refused: `errno` and a sentence. Nothing has changed."""


class Failed(NamedTuple):
    """A file whose vectors were not put."""

    path: str
    errno: int
    message: str


class PutError(QueryError):
    """Some files did not get their vectors. Those that are not in `failed` have them."""

    def __init__(self, failed: list[Failed], put: int) -> None:
        first = failed[0]
        text = f"{first.path}: {first.message}"
        if len(failed) > 1:
            text += f", and {len(failed) - 1} more"
        super().__init__(first.errno, text)
        self.failed = failed
        #: How many vectors were put.
        self.put = put
