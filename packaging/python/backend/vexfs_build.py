# SPDX-License-Identifier: MIT OR Apache-2.0

"""Builds the wheel and the source archive, as pip asks for them (PEP 517), with nothing but Python's own library.

The same sources give the same bytes: names are in order, and times are SOURCE_DATE_EPOCH, or the first that zip can say.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
#: The first moment that a zip archive can say.
EARLIEST = 315_532_800
TAG = "py3-none-any"


def _project() -> dict:
    return tomllib.loads((HERE / "pyproject.toml").read_text())["project"]


def _moment() -> int:
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)), EARLIEST)


def _metadata(project: dict) -> str:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License: {project['license']['text']}",
        *(f"Author: {author['name']}" for author in project["authors"]),
        *(f"Classifier: {classifier}" for classifier in project["classifiers"]),
        f"Requires-Python: {project['requires-python']}",
    ]
    for extra, requirements in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {requirement}; extra == '{extra}'" for requirement in requirements]
    lines += ["Description-Content-Type: text/markdown", "", (HERE / project["readme"]).read_text()]
    return "\n".join(lines)


def _sources() -> list[Path]:
    found = (HERE / "src").rglob("*")
    return sorted(path for path in found if path.suffix in (".py", ".typed") and path.is_file())


def _check_version(project: dict) -> None:
    wanted = f'__version__ = "{project["version"]}"'
    if wanted not in (HERE / "src/vexfs/__init__.py").read_text().splitlines():
        sys.exit(f"src/vexfs/__init__.py does not say {wanted}, as pyproject.toml does: make them equal")


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """Writes the wheel to a directory, and returns its name."""
    project = _project()
    _check_version(project)
    stem = f"{project['name']}-{project['version']}"
    about = f"{stem}.dist-info"
    files = {path.relative_to(HERE / "src").as_posix(): path.read_bytes() for path in _sources()}
    files[f"{about}/METADATA"] = _metadata(project).encode()
    files[f"{about}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: vexfs\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    record.append(f"{about}/RECORD,,")
    files[f"{about}/RECORD"] = ("\n".join(record) + "\n").encode()
    name = f"{stem}-{TAG}.whl"
    moment = time.gmtime(_moment())[:6]
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, moment)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            # Not compressed: what does that differs from machine to machine.
            archive.writestr(entry, data, zipfile.ZIP_STORED)
    return name


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Writes the source archive to a directory, and returns its name."""
    project = _project()
    stem = f"{project['name']}-{project['version']}"
    name = f"{stem}.tar.gz"
    files = [HERE / "pyproject.toml", HERE / project["readme"], *_sources()]
    files += sorted(path for folder in ("backend", "tests") for path in (HERE / folder).glob("*.py"))
    contents = {path.relative_to(HERE).as_posix(): path.read_bytes() for path in files}
    contents["PKG-INFO"] = _metadata(project).encode()
    with tarfile.open(Path(sdist_directory) / name, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path, data in sorted(contents.items()):
            member = tarfile.TarInfo(f"{stem}/{path}")
            member.size = len(data)
            member.mtime = _moment()
            archive.addfile(member, io.BytesIO(data))
    return name


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    print(build_wheel(sys.argv[1]))
