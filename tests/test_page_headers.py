"""Page headers of the usual form, which are matched by one pattern: what the general reader finds, or left to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladd_data.shards.limits import _USUAL_HEADER, _parse_page_header, _read_page_header, read_groups, walk_pages

I32 = st.integers(-(2**31), 2**31 - 1)


def encode(number: int) -> bytes:
    """Return a number as Thrift's compact encoding has it: zigzag, 7 bits a byte."""
    rest, made = (number << 1) ^ (number >> 63), b""
    while rest > 127:
        made, rest = made + bytes([rest & 127 | 128]), rest >> 7
    return made + bytes([rest])


def usual(unpacked: int, stored: int, crc: int, values: int, encoding: int) -> bytes:
    fields = [b"\x15\x00", *(b"\x15" + encode(number) for number in (unpacked, stored, crc)), b"\x1c"]
    fields += [b"\x15" + encode(number) for number in (values, encoding)]
    return b"".join([*fields, b"\x15\x06\x15\x06\x00\x00"])


@given(st.tuples(I32, I32, I32, I32, st.integers(0, 9)), st.binary(max_size=30))
def test_a_usual_header_is_read_as_the_general_reader_reads_it(
    numbers: tuple[int, int, int, int, int], behind: bytes
) -> None:
    data = usual(*numbers) + behind

    found = _read_page_header(lambda position, size: data[position : position + size], 0)

    assert _USUAL_HEADER.match(data) and found == _parse_page_header(data)
    assert (found.unpacked, found.stored, found.crc, found.values, found.encoding) == numbers


@given(st.integers(0, 20), st.integers(0, 255))
def test_a_header_with_another_byte_is_read_alike_or_refused_alike(place: int, byte: int) -> None:
    data = bytearray(usual(700_000, 690_934, -12345, 14, 0))
    data[place] = byte

    def read(position: int, size: int) -> bytes:
        return bytes(data[position : position + size])

    try:
        expected = _parse_page_header(bytes(data))
    except (ValueError, KeyError, AttributeError) as error:
        with pytest.raises(type(error)):
            _read_page_header(read, 0)
    else:
        assert _read_page_header(read, 0) == expected


def test_arrow_writes_headers_of_this_form(tmp_path: Path) -> None:
    files = pa.array([np.random.default_rng(0).bytes(3000) for _ in range(50)])
    path = tmp_path / "set"
    options = {"use_dictionary": False, "write_page_checksum": True, "write_page_index": True, "compression": "none"}
    pq.write_table(pa.table({"image": files}), path, data_page_size=10_000, write_batch_size=1, **options)
    data, chunk = path.read_bytes(), read_groups(path)[0].chunks[0]

    pages = list(walk_pages("image", lambda at, size: data[at : at + size], chunk, len(data)))

    assert len(pages) > 5 and _USUAL_HEADER.match(data[chunk.start :])
