"""Files that libraries stream into: whatever the pieces, the file is all of them in order."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladd_data.new_files import FileToMap

LARGE = 2**22
sizes = st.lists(st.one_of(st.integers(0, 100), st.integers(LARGE - 50, LARGE + 50), st.just(2 * LARGE)), max_size=4)


@settings(max_examples=15)
@given(sizes)
def test_a_file_to_map_holds_what_was_written(sizes: list[int]) -> None:
    parts = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    with TemporaryDirectory() as name:
        path = Path(name) / "file"
        file = FileToMap(path)
        for number, part in enumerate(parts):
            assert file.write(memoryview(part) if number % 2 else part) == len(part)
            assert file.tell() == sum(map(len, parts[: number + 1]))
        file.close()
        assert file.closed
        assert path.read_bytes() == b"".join(parts)


def test_each_write_of_a_file_to_map_begins_at_a_multiple_of_4_mib(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", []
    file = FileToMap(path)
    for _ in range(9):
        file.write(b"x" * (LARGE // 3 + 7))
        seen.append(path.stat().st_size)
    assert {size % LARGE for size in seen} == {0}
    assert seen[-1] == 3 * LARGE
    file.close()
    assert path.stat().st_size == 9 * (LARGE // 3 + 7)


def test_a_file_to_map_passes_on_that_the_disk_is_full() -> None:
    file = FileToMap(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x" * LARGE)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x" * LARGE)
    file.close()
