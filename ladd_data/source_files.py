"""What a dataset was made from, for its manifest: files with size and SHA-256, a folder of files in one entry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ladd_data.files import sha256_file
from ladd_data.manifest import SourceFile


class SourceFiles:
    """Collects the digests of the files read, as they are read. 200 bytes of memory a file of a folder."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Take what was read: files, and folders of which some files were read."""
        self._paths = tuple(paths)
        self._folders: dict[str, list[tuple[str, str]]] = {f"{path}{os.sep}": [] for path in paths if path.is_dir()}
        self._bytes = dict.fromkeys(self._folders, 0)

    def add(self, path: str, size: int, sha256: str) -> None:
        """Count a file that was read; one that is in none of the folders has an entry of its own."""
        for folder, lines in self._folders.items():
            if path.startswith(folder):
                lines.append((path[len(folder) :], sha256))
                self._bytes[folder] += size

    def result(self) -> tuple[SourceFile, ...]:
        """Return an entry for each file and folder; a folder of which no file was counted is read now, whole."""
        return tuple(self._describe(path) for path in self._paths)

    def _describe(self, path: Path) -> SourceFile:
        if not path.is_dir():
            return SourceFile(path=_in_json(path.name), bytes=path.stat().st_size, sha256=sha256_file(path))
        folder = f"{path}{os.sep}"
        if not self._folders[folder]:
            for file in path.rglob("*"):
                if file.is_file():
                    self.add(os.fspath(file), file.stat().st_size, sha256_file(file))
        state = hashlib.sha256()
        for name, digest in sorted((_in_json(name), digest) for name, digest in self._folders[folder]):
            state.update(f"{digest}  {name}\n".encode())
        total = self._bytes[folder]
        return SourceFile(path=f"{_in_json(path.resolve().name)}/", bytes=total, sha256=state.hexdigest())


def _in_json(name: str) -> str:
    """Return a path in the form that can stand in JSON: slashes, and no bytes that are not UTF-8."""
    return name.replace(os.sep, "/").encode(errors="backslashreplace").decode()
