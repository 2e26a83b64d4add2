# SPDX-License-Identifier: MIT OR Apache-2.0

"""Vectors of files on a mounted VexFS: put, get, search.

    >>> import vexfs
    >>> pool = vexfs.Pool("/mnt")                                   # doctest: +SKIP
    >>> space = pool.create_space("notes", dimensions=384)          # doctest: +SKIP
    >>> space.put("/mnt/a.txt", [0.5] * 384)                        # doctest: +SKIP
    >>> [hit.path for hit in space.search([0.5] * 384, k=3)]        # doctest: +SKIP
"""

from . import where
from .errors import PutError, QueryError
from .numbers import Element, VectorLike
from .pool import Pool
from .space import Answer, Hit, Like, Space, Text

__all__ = [
    "Answer",
    "Element",
    "Hit",
    "Like",
    "Pool",
    "PutError",
    "QueryError",
    "Space",
    "Text",
    "VectorLike",
    "where",
]
__version__ = "0.1.0"
