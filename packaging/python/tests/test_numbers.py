# SPDX-License-Identifier: MIT OR Apache-2.0

"""Vectors as bytes, paths and filters: what needs no mount."""

import datetime
import unittest

from vexfs import Element, Pool, where
from vexfs.numbers import Shape, several


class Numbers(unittest.TestCase):
    def test_every_element_survives_being_bytes(self) -> None:
        for element, vector, size in [
            (Element.F32, [0.5, -2.0, 3.25], 12),
            (Element.F16, [0.5, -2.0, 3.25], 6),
            (Element.I8, [-128, 0, 127], 3),
            (Element.BINARY, [1, 0, 0, 0, 0, 0, 0, 0, 1, 1], 2),
        ]:
            shape = Shape(element, len(vector))
            data = shape.encode_all([vector, vector])
            self.assertEqual(len(data), 2 * size, element)
            self.assertEqual([list(row) for row in shape.decode(data)], [vector, vector])
        self.assertEqual(Shape(Element.BINARY, 10).encode([1, 0, 0, 0, 0, 0, 0, 0, 1, 1]), b"\x01\x03")
        self.assertEqual(Shape(Element.F32, 1).encode([1.0]), b"\x00\x00\x80\x3f")

    def test_what_is_no_vector_is_refused(self) -> None:
        for element, vector in [
            (Element.F32, [1.0]),
            (Element.F32, [1.0, "x"]),
            (Element.F16, [1e9, 0.0]),
            (Element.I8, [128, 0]),
            (Element.I8, [0.5, 0]),
            (Element.BINARY, [2, 0]),
        ]:
            with self.assertRaises(ValueError, msg=f"{element} {vector}"):
                Shape(element, 2).encode(vector)
        with self.assertRaises(OSError):
            Shape(Element.F32, 2).decode(b"123")

    def test_one_vector_and_several_are_told_apart(self) -> None:
        self.assertEqual(several([1.0, 2.0]), [[1.0, 2.0]])
        self.assertEqual(several([[1.0], [2.0]]), [[1.0], [2.0]])
        self.assertEqual(several(row for row in [[1.0], [2.0]]), [[1.0], [2.0]])
        self.assertEqual(several([]), [])


class Paths(unittest.TestCase):
    def test_paths_are_below_the_mount_point_or_relative_to_it(self) -> None:
        pool = Pool("/nowhere/mnt/")
        for path in ["a/b", "/nowhere/mnt/a/b", "./a//b", "/nowhere/mnt/../mnt/a/b"]:
            self.assertEqual(pool.inside(path), "/a/b", path)
            self.assertEqual(str(pool.outside(path)), "/nowhere/mnt/a/b")
        self.assertEqual(pool.inside("/nowhere/mnt"), "/")
        self.assertEqual(pool.inside("."), "/")
        for path in ["/etc/passwd", "/nowhere/mnt2/a", "../a", "/nowhere"]:
            for way in (pool.inside, pool.outside):
                with self.assertRaises(ValueError, msg=path):
                    way(path)
        with self.assertRaises(ValueError):
            pool.inside("\udcff")
        self.assertEqual(Pool("/").inside("/a"), "/a")

    def test_filters_are_joined(self) -> None:
        moment = datetime.datetime(2026, 11, 22, 1, 0, 0, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
        joined = (where.under("/nowhere/mnt/a") | where.modified(first=moment)) & ~where.size(most=9)
        self.assertEqual(
            joined.document(Pool("/nowhere/mnt").inside),
            {
                "and": [
                    {"or": [{"under": "/a"}, {"modified": {"from": 1795305600000005000}}]},
                    {"not": {"size": {"to": 9}}},
                ]
            },
        )


if __name__ == "__main__":
    unittest.main()
