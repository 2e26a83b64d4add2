# SPDX-License-Identifier: MIT OR Apache-2.0

"""Vectors as numbers, and as the bytes that attributes hold: elements back to back, little-endian."""

from __future__ import annotations

import array
import errno
import struct
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import numpy

#: Numbers, or anything that has them in a row, as an array of numpy has.
VectorLike = Union[Sequence[float], "numpy.ndarray[Any, Any]"]


class Element(Enum):
    """What a vector is made of."""

    F32 = "f32"
    F16 = "f16"
    I8 = "i8"
    #: One bit per dimension, the lowest of a byte first; as numbers, 0 and 1.
    BINARY = "binary"


class Shape:
    """What the vectors of a space are."""

    def __init__(self, element: Element, dimensions: int) -> None:
        self.element = element
        self.dimensions = dimensions
        width = {Element.F32: 4, Element.F16: 2, Element.I8: 1}.get(element)
        #: Bytes of a vector.
        self.size = (dimensions + 7) // 8 if width is None else width * dimensions

    def encode(self, vector: VectorLike) -> bytes:
        """The bytes of one vector. Raises ValueError if it is none of this shape."""
        numbers: Sequence[Any] = vector.tolist() if hasattr(vector, "tolist") else vector
        if len(numbers) != self.dimensions:
            raise ValueError(f"{len(numbers)} numbers are no vector of {self.dimensions} dimensions")
        try:
            if self.element is Element.F32:
                return struct.pack(f"<{self.dimensions}f", *numbers)
            if self.element is Element.F16:
                return struct.pack(f"<{self.dimensions}e", *numbers)
            if self.element is Element.I8:
                return struct.pack(f"<{self.dimensions}b", *map(_whole, numbers))
        except (struct.error, OverflowError, TypeError) as error:
            raise ValueError(f"an element is no {self.element.value}: {error}") from None
        packed = bytearray(self.size)
        for at, number in enumerate(numbers):
            if number not in (0, 1):
                raise ValueError(f"{number!r} is no bit")
            packed[at // 8] |= int(number) << at % 8
        return bytes(packed)

    def encode_all(self, vectors: VectorLike | Iterable[VectorLike]) -> bytes:
        """The bytes of one vector or several, back to back."""
        return b"".join(self.encode(vector) for vector in several(vectors))

    def decode(self, data: bytes) -> list[array.array[Any]]:
        """The vectors of bytes, as arrays: of floats, or of small integers."""
        if len(data) % self.size:
            raise OSError(errno.EINVAL, f"{len(data)} bytes are not a whole number of vectors")
        return [self._one(data[at : at + self.size]) for at in range(0, len(data), self.size)]

    def _one(self, data: bytes) -> array.array[Any]:
        if self.element is Element.I8:
            return array.array("b", data)
        if self.element is Element.F32:
            found: array.array[Any] = array.array("f", data)
            if sys.byteorder == "big":
                found.byteswap()
            return found
        if self.element is Element.F16:
            return array.array("f", struct.unpack(f"<{self.dimensions}e", data))
        return array.array("B", (data[at // 8] >> at % 8 & 1 for at in range(self.dimensions)))


def several(vectors: VectorLike | Iterable[VectorLike]) -> list[VectorLike]:
    """One vector, or several, as a list of vectors."""
    dimensions = getattr(vectors, "ndim", None)
    if dimensions is not None:
        return [vectors] if dimensions == 1 else list(vectors)  # type: ignore[list-item, arg-type]
    rows: list[Any] = list(vectors)
    return rows if rows and hasattr(rows[0], "__len__") else [rows] if rows else []


def _whole(number: Any) -> int:
    if number != int(number):
        raise TypeError(f"{number!r} is no whole number")
    return int(number)
