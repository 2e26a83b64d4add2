# SPDX-License-Identifier: MIT OR Apache-2.0

"""The client on a real mount, which the environment names: VEXFS_MOUNT. The pool there is empty."""

import errno
import importlib.util
import os
import unittest
from pathlib import Path

import vexfs
from vexfs import where

MOUNT = os.environ.get("VEXFS_MOUNT")


@unittest.skipUnless(MOUNT, "VEXFS_MOUNT names no mount")
class Mounted(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(MOUNT or "/")
        self.pool = vexfs.Pool(self.root)
        self.space = self.pool.create_space("line", dimensions=2, metric="l2", fields={"user.lang": "filter"})
        self.addCleanup(self.pool.drop_space, "line")

    def file(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.write(name)
            # A search knows sizes that the server has.
            file.flush()
            os.fsync(file.fileno())
        self.addCleanup(path.unlink)
        return path

    def test_what_is_put_is_got_and_found(self) -> None:
        near, far = self.file("near"), self.file("far")
        self.space.put(near, [1, 0])
        self.space.put(far, [[9, 0], [5, 0]])
        self.assertEqual([list(row) for row in self.space.get("far")], [[9, 0], [5, 0]])
        self.assertEqual(os.getxattr(near, self.space.attribute), b"\x00\x00\x80\x3f\x00\x00\x00\x00")
        answer = self.space.search([2, 0], k=3)
        self.assertEqual([(hit.path, hit.ordinal, hit.distance) for hit in answer], [(near, 0, 1), (far, 1, 3), (far, 0, 7)])
        self.assertFalse(answer.partial)
        self.assertEqual(len(answer), 3)
        self.assertEqual(self.space.delete(far, near, ordinal=1), 1)
        self.assertEqual(self.space.delete(far, near), 2)
        self.assertEqual(self.space.get(near), [])
        self.assertEqual(len(self.space.search([2, 0])), 0)

    def test_many_are_put_and_asked_for_at_once(self) -> None:
        # More bytes than one request is given.
        paths = [self.file(f"many/{number}") for number in range(300)]
        wide = self.pool.create_space("wide", dimensions=4096, metric="l2")
        self.addCleanup(self.pool.drop_space, "wide")
        row = [0.0] * 4095
        self.assertEqual(wide.put_many((path, [float(number), *row]) for number, path in enumerate(paths)), 300)
        self.assertEqual(wide.alter(effort=70).vectors, 300)
        answers = wide.search_many([[float(number), *row] for number in (7, 250)], k=2, exact=True)
        self.assertEqual([answer[0].path.name for answer in answers], ["7", "250"])
        self.assertTrue(answers[0].exact)
        got = wide.get_many(paths[3:5])
        self.assertEqual([vectors[0][0] for vectors in got], [3, 4])
        # More than an attribute can hold, there and back.
        passages = [[float(number), *row] for number in range(20)]
        wide.put(paths[0], passages)
        self.assertEqual([list(vector) for vector in wide.get(paths[0])], passages)
        self.pool.flush()

    def test_what_cannot_be_put_is_named_and_the_rest_is_put(self) -> None:
        there = self.file("there")
        with self.assertRaises(vexfs.PutError) as caught:
            self.space.put_many({"missing": [1, 1], there: [2, 2]})
        self.assertEqual([(one.path, one.errno) for one in caught.exception.failed], [("/missing", errno.ENOENT)])
        self.assertEqual(caught.exception.put, 1)
        self.assertEqual([list(row) for row in self.space.get(there)], [[2, 2]])

    def test_filters_attributes_and_other_queries(self) -> None:
        inside, outside = self.file("letters/a.txt"), self.file("b.txt")
        self.space.put_many({inside: [1, 0], outside: [2, 0]}, of=5)
        os.setxattr(inside, "user.lang", b"en")

        def found(only: where.Filter) -> list:
            return [hit.path for hit in self.space.search([0, 0], filter=only)]

        self.assertEqual(found(where.under(self.root / "letters")), [inside])
        self.assertEqual(found(~where.xattr("user.lang", "en") & where.name("*.txt")), [outside])
        self.assertEqual(found(where.size(least=6)), [inside])
        self.assertEqual(found(where.modified(first=0)), [inside, outside])
        hit = self.space.search(vexfs.Like(outside), k=1, attributes=["size", "user.lang"])[0]
        self.assertEqual((hit.path, hit.distance, dict(hit.attributes)), (outside, 0, {"size": 5, "user.lang": None}))
        self.assertEqual(len(self.space.search(vexfs.Text("letters"))), 2)
        self.assertIsNotNone(self.space.search([0, 0], hybrid="letters")[0].score)
        os.link(inside, self.root / "linked")
        self.addCleanup(os.unlink, self.root / "linked")
        hit = self.space.search([1, 0], k=1)[0]
        self.assertEqual({hit.path, *hit.other_paths}, {inside, self.root / "linked"})

    def test_refusals_are_errors_with_a_number_and_a_sentence(self) -> None:
        for number, refused in [
            (errno.EEXIST, lambda: self.pool.create_space("line", dimensions=2)),
            (errno.ENOENT, lambda: self.pool.space("nothing")),
            (errno.ENOENT, lambda: self.space.delete("nothing")),
            (errno.EINVAL, lambda: self.space.search([0, 0], filter={"color": "red"})),
        ]:
            with self.assertRaises(vexfs.QueryError) as caught:
                refused()
            self.assertEqual(caught.exception.errno, number)
            self.assertGreater(len(caught.exception.strerror), 5)
        with self.assertRaises(ValueError):
            self.space.search([0, 0, 0])
        with self.assertRaises(ValueError):
            self.space.put(self.file("f"), [])
        with self.assertRaises(vexfs.QueryError) as caught:
            vexfs.Pool("/proc").spaces()
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)

    def test_every_element_goes_there_and_back(self) -> None:
        path = self.file("f")
        for element, vector in [("f16", [0.5, -2.0]), ("i8", [-128, 127]), ("binary", [1, 0])]:
            metric = "hamming" if element == "binary" else "l2"
            space = self.pool.create_space(element, dimensions=2, element=element, metric=metric)
            self.addCleanup(self.pool.drop_space, element)
            space.put(path, vector)
            self.assertEqual([list(row) for row in space.get(path)], [vector], element)
            self.assertEqual(list(space.get_many([path])[0][0]), vector, element)
            self.assertEqual(space.search(vector)[0].distance, 0, element)

    @unittest.skipUnless(importlib.util.find_spec("numpy"), "numpy is not installed")
    def test_arrays_of_numpy_are_taken_and_given(self) -> None:
        import numpy

        path = self.file("f")
        rows = numpy.array([[1, 2], [3, 4]], dtype="f4")
        self.space.put(path, rows)
        numpy.testing.assert_array_equal(self.space.get_numpy(path), rows)
        self.space.put_many({path: rows[0]})
        self.assertEqual(self.space.search(rows[0])[0].distance, 0)


if __name__ == "__main__":
    unittest.main()
