"""Files one behind the other in one piece of memory: pictures are read into it, and shards are written from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ladd_data.types import U8


class JoinedFiles(Sequence[bytes]):
    """Files that are written, hashed and sliced where they lie; one becomes bytes of its own when it is asked for.

    data: uint8, which has them all. ends: int32 [n + 1], where each begins, and at last where the last one ends.
    """

    def __init__(self, data: U8, ends: NDArray[np.int32]) -> None:
        """Wrap memory without a copy."""
        self.data, self.ends = data, ends

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return int(self.ends[-1] - self.ends[0])

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> JoinedFiles: ...

    def __getitem__(self, index: int | slice) -> bytes | JoinedFiles:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"a step of {step}; files are cut in their order")
            return JoinedFiles(self.data, self.ends[start : max(start, stop) + 1])
        number = range(len(self))[index]
        return self.data[self.ends[number] : self.ends[number + 1]].tobytes()

    def views(self) -> list[memoryview]:
        """Return each file, without a copy."""
        whole = self.data.data
        return [whole[start:end] for start, end in pairwise(self.ends.tolist())]


def join_files(files: Sequence[bytes]) -> JoinedFiles:
    """Return files one behind the other; those that lie so already as they are."""
    if isinstance(files, JoinedFiles):
        return files
    held = list(files)
    ends = np.zeros(len(held) + 1, np.int32)
    np.cumsum([len(data) for data in held], out=ends[1:])
    return JoinedFiles(np.frombuffer(b"".join(held), np.uint8), ends)
