"""What a dataset was made from, for its manifest: files with size and SHA-256, a folder of files in one entry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import islice
from operator import lt
from pathlib import Path

from ladd_data.files import sha256_file
from ladd_data.manifest import SourceFile

LINES_AT_ONCE = 256


class SourceFiles:
    """Collects the digests of the files read, as they are read. 40 bytes of memory a file of a folder, and its path."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Take what was read: files, and folders of which some files were read."""
        self._paths = tuple(paths)
        self._folders = {f"{path}{os.sep}": _Folder() for path in paths if path.is_dir()}

    def add(self, path: str, size: int, sha256: str) -> None:
        """Count a file that was read; one that is in none of the folders has an entry of its own."""
        self.add_all([path], [size], [sha256])

    def add_all(self, paths: Sequence[str], sizes: Sequence[int], digests: Sequence[str]) -> None:
        """Count files that were read, with the size and SHA-256 of each."""
        for folder, found in self._folders.items():
            if all(path.startswith(folder) for path in paths):
                found.add(paths, sizes, digests)
            else:
                for path, size, digest in zip(paths, sizes, digests, strict=True):
                    if path.startswith(folder):
                        found.add([path], [size], [digest])

    def result(self) -> tuple[SourceFile, ...]:
        """Return an entry for each file and folder; a folder of which no file was counted is read now, whole."""
        return tuple(self._describe(path) for path in self._paths)

    def _describe(self, path: Path) -> SourceFile:
        if not path.is_dir():
            return SourceFile(path=_in_json(path.name), bytes=path.stat().st_size, sha256=sha256_file(path))
        folder = f"{path}{os.sep}"
        found = self._folders[folder]
        if not found.paths:
            for file in path.rglob("*"):
                if file.is_file():
                    self.add(os.fspath(file), file.stat().st_size, sha256_file(file))
        name, sha256 = f"{_in_json(path.resolve().name)}/", found.sha256(len(folder))
        return SourceFile(path=name, bytes=found.bytes, sha256=sha256)


class _Folder:
    """What was read of one folder: each file's path, and their digests one after the other."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bytes = 0
        self._digests = bytearray()

    def add(self, paths: Sequence[str], sizes: Sequence[int], digests: Sequence[str]) -> None:
        """Count files."""
        self.paths += paths
        self.bytes += sum(sizes)
        self._digests += bytes.fromhex("".join(digests))

    def sha256(self, skip: int) -> str:
        """Return the SHA-256 of what `sha256sum` says of all files, sorted by name: the path from `skip` on."""
        state, count = hashlib.sha256(), len(self.paths)

        def line(number: int) -> tuple[str, str]:
            return _in_json(self.paths[number][skip:]), self._digests[number * 32 : (number + 1) * 32].hex()

        lines = map(line, range(count) if self._is_sorted() else sorted(range(count), key=line))
        while part := list(islice(lines, LINES_AT_ONCE)):
            state.update("".join([f"{digest}  {name}\n" for name, digest in part]).encode())
        return state.hexdigest()

    def _is_sorted(self) -> bool:
        """Whether the files came in the order of their names, as they do where a converter sorts them."""
        in_order = all(map(lt, self.paths, islice(self.paths, 1, None)))
        return in_order and os.sep == "/" and all(map(str.isascii, self.paths))


def _in_json(name: str) -> str:
    """Return a path in the form that can stand in JSON: slashes, and no bytes that are not UTF-8."""
    if os.sep == "/" and name.isascii():
        return name
    return name.replace(os.sep, "/").encode(errors="backslashreplace").decode()
