# SPDX-License-Identifier: MIT OR Apache-2.0

"""A space: the vectors of files, and searching for them.

Vectors of one file are an extended attribute. Many files, and searches, go through the pool's query file.
"""

from __future__ import annotations

import array
import errno
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from .errors import Failed, PutError
from .numbers import Element, Shape, VectorLike, several
from .where import Filter

if TYPE_CHECKING:
    import numpy

    from .pool import Pool

PathLikes = Union[str, "PathLike[str]"]
#: How many bytes of vectors are put with one request, which can have 16 MiB.
_BATCH = 4 << 20
#: Queries that a request can have, and paths that one is given.
_QUERIES = 1000
_PATHS = 500


@dataclass(frozen=True)
class Text:
    """A query: text, by the lexical embedder."""

    text: str


@dataclass(frozen=True)
class Like:
    """A query: near a vector of a file."""

    path: PathLikes
    ordinal: int = 0


Query = Union[VectorLike, Text, Like]


@dataclass(frozen=True)
class Hit:
    """What was found."""

    #: Below the mount point.
    path: Path
    #: Which vector of the file.
    ordinal: int
    #: Less is nearer.
    distance: float
    #: With `hybrid`: what results are ordered by, less is better.
    score: Optional[float] = None
    #: Other names of the file.
    other_paths: tuple[Path, ...] = ()
    #: Those that were asked for.
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer(Sequence[Hit]):
    """The results of one query, the nearest first."""

    hits: tuple[Hit, ...]
    #: Every vector was compared.
    exact: bool
    #: Something could not be read, so results may be missing.
    partial: bool

    def __getitem__(self, index: Any) -> Any:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)


class Space:
    """Vectors of one kind. Get one from a Pool."""

    def __init__(self, pool: Pool, document: Mapping[str, Any]) -> None:
        self.pool = pool
        self.name: str = document["name"]
        self.dimensions: int = document["dimensions"]
        self.element = Element(document["element"])
        self.metric: str = document["metric"]
        self.effort: int = document["effort"]
        self.fields: dict[str, str] = {found["name"]: found["use"] for found in document["fields"]}
        #: How many vectors there were; None where that is not for the calling user to know.
        self.vectors: Optional[int] = document.get("vectors")
        self._shape = Shape(self.element, self.dimensions)

    def __repr__(self) -> str:
        return f"<Space {self.name!r}: {self.element.value}[{self.dimensions}], {self.metric}>"

    @property
    def attribute(self) -> str:
        """The extended attribute that is the vectors of a file."""
        return f"user.vexfs.vec.{self.name}"

    def put(self, path: PathLikes, vectors: Union[VectorLike, Iterable[VectorLike]]) -> None:
        """Gives a file exactly these vectors: one, or one for each of its passages. They are durable after an fsync."""
        data = self._shape.encode_all(vectors)
        if not data:
            raise ValueError("no vector is given; delete takes those away that there are")
        try:
            os.setxattr(self.pool.outside(path), self.attribute, data)
        except OSError as error:
            # Longer than an attribute can be.
            if error.errno != errno.E2BIG:
                raise
            self._put_batch([(self.pool.inside(path), data)], None)

    def put_many(
        self,
        items: Union[
            Mapping[PathLikes, Union[VectorLike, Iterable[VectorLike]]],
            Iterable[tuple[PathLikes, Union[VectorLike, Iterable[VectorLike]]]],
        ],
        *,
        of: Optional[int] = None,
    ) -> int:
        """Gives many files exactly these vectors, a few MiB with each request. `of`: when the contents were modified that they
        are made of, in nanoseconds. Returns how many vectors were put. Raises PutError if files did not get theirs."""
        pairs = items.items() if isinstance(items, Mapping) else items
        put, failed = 0, []
        for batch in self._batches(pairs):
            try:
                put += self._put_batch(batch, of)
            except PutError as error:
                put += error.put
                failed += error.failed
        if failed:
            raise PutError(failed, put)
        return put

    def _batches(
        self, pairs: Iterable[tuple[PathLikes, Union[VectorLike, Iterable[VectorLike]]]]
    ) -> Iterator[list[tuple[str, bytes]]]:
        batch: list[tuple[str, bytes]] = []
        size = 0
        for path, vectors in pairs:
            data = self._shape.encode_all(vectors)
            if batch and size + len(data) > _BATCH:
                yield batch
                batch, size = [], 0
            batch.append((self.pool.inside(path), data))
            size += len(data)
        if batch:
            yield batch

    def _put_batch(self, batch: Sequence[tuple[str, bytes]], of: Optional[int]) -> int:
        name = self.name.encode()
        parts = [b"VXQ1", struct.pack("<H", len(name)), name, struct.pack("<I", len(batch))]
        whole, has_time = 1, 2
        for path, data in batch:
            encoded = path.encode()
            parts += [struct.pack("<H", len(encoded)), encoded]
            if of is None:
                parts.append(struct.pack("<II", 0, whole))
            else:
                parts.append(struct.pack("<IIq", 0, whole | has_time, of))
            parts += [struct.pack("<I", len(data)), data]
        answer = self.pool.ask(b"".join(parts))
        put: int = answer["vectors"]
        errors = answer["errors"]
        if errors:
            raise PutError([Failed(batch[one["item"]][0], one["errno"], one["message"]) for one in errors], put)
        return put

    def get(self, path: PathLikes) -> list[array.array[Any]]:
        """The vectors of a file; none if it has none."""
        try:
            return self._shape.decode(os.getxattr(self.pool.outside(path), self.attribute))
        except OSError as error:
            if error.errno == errno.ENODATA:
                return []
            # Longer than an attribute can be.
            if error.errno not in (errno.E2BIG, errno.ERANGE):
                raise
        return self.get_many([path])[0]

    def get_numpy(self, path: PathLikes) -> numpy.ndarray[Any, Any]:
        """The same as an array of numpy with a row for each vector."""
        import numpy

        rows = self.get(path)
        return numpy.array([list(row) for row in rows], dtype=rows[0].typecode if rows else "f").reshape(
            len(rows), self.dimensions
        )

    def get_many(self, paths: Iterable[PathLikes]) -> list[list[array.array[Any]]]:
        """The vectors of files, in their order."""
        code = {Element.I8: "b", Element.BINARY: "B"}.get(self.element, "f")
        found: list[list[array.array[Any]]] = []
        for some in _cut([self.pool.inside(path) for path in paths], _PATHS):
            answer = self.pool.ask({"op": "get", "space": self.name, "paths": some})
            for file in answer["files"]:
                found.append([array.array(code, one["vector"]) for one in file["vectors"]])
        return found

    def delete(self, *paths: PathLikes, ordinal: Optional[int] = None) -> int:
        """Takes the vectors of files away, or only the one with this ordinal. Returns how many files had some."""
        deleted = 0
        for some in _cut([self.pool.inside(path) for path in paths], _PATHS):
            request: dict[str, Any] = {"op": "delete", "space": self.name, "paths": some}
            if ordinal is not None:
                request["ordinal"] = ordinal
            deleted += self.pool.ask(request)["files"]
        return deleted

    def search(self, query: Query, k: int = 10, **options: Any) -> Answer:
        """The nearest to a vector, a Text or a Like. Options are those of `search_many`."""
        return self.search_many([query], k, **options)[0]

    def search_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        *,
        offset: int = 0,
        threshold: Optional[float] = None,
        effort: Optional[int] = None,
        exact: bool = False,
        filter: Union[Filter, Mapping[str, Any], None] = None,
        hybrid: Union[str, Mapping[str, Any], None] = None,
        attributes: Sequence[str] = (),
    ) -> list[Answer]:
        """The nearest to each of many, in their order.

        `threshold` is the largest distance, `effort` how hard to try (1 to 100), `exact` compares every vector. `hybrid` is a
        text that names of results are to be like, or what docs/VECTORS.md says. `attributes` are told of each result.
        """
        request: dict[str, Any] = {"op": "search", "space": self.name, "k": k}
        if offset:
            request["offset"] = offset
        if threshold is not None:
            request["threshold"] = threshold
        if effort is not None:
            request["effort"] = effort
        if exact:
            request["exact"] = True
        if filter is not None:
            request["filter"] = filter.document(self.pool.inside) if isinstance(filter, Filter) else dict(filter)
        if hybrid is not None:
            request["hybrid"] = {"text": hybrid} if isinstance(hybrid, str) else dict(hybrid)
        if attributes:
            request["attributes"] = list(attributes)
        answers: list[Answer] = []
        for some in _cut([self._query(query) for query in queries], _QUERIES):
            told = self.pool.ask({**request, "queries": some})
            for results in told["results"]:
                hits = tuple(self._hit(result) for result in results)
                answers.append(Answer(hits, bool(told["exact"]), bool(told["partial"])))
        return answers

    def _query(self, query: Query) -> dict[str, Any]:
        if isinstance(query, Text):
            return {"text": query.text}
        if isinstance(query, Like):
            return {"like": {"path": self.pool.inside(query.path), "ordinal": query.ordinal}}
        vectors = several(query)
        if len(vectors) != 1:
            raise ValueError(f"{len(vectors)} vectors are given, and one is a query: search_many takes several")
        # Looked at here, where the caller sees which it was.
        self._shape.encode(vectors[0])
        return {"vector": [float(number) for number in vectors[0]]}

    def _hit(self, result: Mapping[str, Any]) -> Hit:
        return Hit(
            path=self._outside(result["path"]),
            ordinal=result["ordinal"],
            distance=result["distance"],
            score=result.get("score"),
            other_paths=tuple(self._outside(path) for path in result.get("other_paths", ())),
            attributes=result.get("attributes", {}),
        )

    def _outside(self, path: Union[str, Mapping[str, str]]) -> Path:
        text = path if isinstance(path, str) else os.fsdecode(bytes.fromhex(path["hex"]))
        return self.pool.root / text.lstrip("/")

    def alter(
        self,
        *,
        rename: Optional[str] = None,
        effort: Optional[int] = None,
        fields: Optional[Mapping[str, str]] = None,
    ) -> Space:
        """Changes the space, and returns it as it is then."""
        request: dict[str, Any] = {"op": "alter_space", "name": self.name}
        if rename is not None:
            request["rename"] = rename
        if effort is not None:
            request["effort"] = effort
        if fields is not None:
            request["fields"] = [{"name": name, "use": use} for name, use in fields.items()]
        self.pool.ask(request)
        return self.pool.space(rename or self.name)


def _cut(items: Sequence[Any], length: int) -> Iterator[list[Any]]:
    for at in range(0, len(items), length):
        yield list(items[at : at + length])
