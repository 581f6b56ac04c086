"""Stored PNGs: read straight into batches whose pixels are a view of them, or copied; anything else is decoded."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_distilled

import ladd_data as ladd
from ladd_data import convert as converting
from ladd_data.convert import convert, prepare
from ladd_data.loaders.reading import shard_files
from ladd_data.loaders.reading.picture_files import PictureDecoder
from ladd_data.loaders.reading.stored_pngs import StoredPngs, find_form
from ladd_data.png import PngKind, decode_png, encode_png
from ladd_data.shards import plan
from ladd_data.types import U8

COUNT = 30


def write(folder: Path, encode: Any = encode_png, size: int = 32, rows: int = COUNT) -> Path:
    """Write COUNT stored images, each file made by `encode`, in row groups of `rows`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP_BYTES", rows * (size * (size * 3 + 1) + 64) + 100)
        patch.setattr(converting, "encode_png", encode)
        convert(prepare(make_distilled(COUNT, size), "set", png="stored"), folder)
    return folder


def contents(loader: Any) -> dict[int, bytes]:
    """Return the pixels of each record that a pass yields; those of repeated ones are equal."""
    found: dict[int, bytes] = {}
    for batch in loader:
        for row, number in enumerate(batch.index.tolist()):
            pixels = batch.image[row].numpy().tobytes()
            assert found.setdefault(number, pixels) == pixels
    return found


def expected(folder: Path) -> dict[int, bytes]:
    return {number: decode(folder, number).tobytes() for number in range(COUNT)}


def decode(folder: Path, number: int) -> U8:
    return ladd.load(folder)[number].image.numpy()


def filter_rows(image: U8, kind: PngKind) -> bytes:
    """Return a PNG as long as the stored one, each of whose rows but the first is what it adds to the one above."""
    plain = encode_png(image, "stored")
    width, height = 1 + image[:, 0].size, image.shape[1]
    rows = np.frombuffer(zlib.decompress(plain[41:-16]), np.uint8).reshape(height, width).copy()
    rows[1:, 1:] = np.diff(rows[:, 1:].astype(np.int16), axis=0).astype(np.uint8)
    rows[1:, 0] = 2
    body = zlib.compress(rows.tobytes(), 0)
    chunk = b"IDAT" + body
    made = plain[:33] + len(body).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + plain[-12:]
    assert len(made) == len(plain) and np.array_equal(decode_png(made, *image.shape), image)
    return made


def sometimes(other: Any) -> Any:
    """Encode every third image otherwise."""
    seen: list[int] = []

    def encode(image: U8, kind: PngKind) -> bytes:
        seen.append(1)
        return bytes(other(image, kind) if len(seen) % 3 == 0 else encode_png(image, kind))

    return encode


def test_the_pixels_of_a_batch_are_a_view_of_the_files_in_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    form = find_form((3, 32, 32))
    assert form is not None

    batches = list(ladd.stream(folder, 7, shuffle=True))

    for batch in batches:
        assert batch.image.stride() == (form.slot_bytes, 1, 97, 3)
        for row, number in enumerate(batch.index.tolist()):
            assert np.array_equal(batch.image[row].numpy(), decode(folder, number))


@pytest.mark.parametrize("rows", [3, 11, COUNT])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_rank_gets_its_records_from_pages_that_have_others_too(
    tmp_path: Path, rows: int, shuffle: bool, world: int
) -> None:
    folder = write(tmp_path / "set", rows=rows)

    ranks = [ladd.stream(folder, 4, shuffle=shuffle, rank=rank, world=world, last="wrap") for rank in range(world)]

    assert {number: pixels for rank in ranks for number, pixels in contents(rank).items()} == expected(folder)


def test_records_that_fill_up_the_end_are_there_twice(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")

    (batch,) = ladd.stream(folder, 2 * COUNT - 5, last="wrap")

    for row, number in enumerate(batch.index.tolist()):
        assert np.array_equal(batch.image[row].numpy(), decode(folder, number))


@pytest.mark.parametrize(
    "other", [filter_rows, lambda image, kind: encode_png(image, "small")], ids=["as long", "small"]
)
@pytest.mark.parametrize("rows", [4, COUNT])
def test_other_pngs_among_stored_ones_are_decoded(tmp_path: Path, other: Any, rows: int) -> None:
    folder = write(tmp_path / "set", sometimes(other), rows=rows)

    for shuffle in (False, True):
        assert contents(ladd.stream(folder, 7, shuffle=shuffle)) == expected(folder)
    assert contents(ladd.load(folder).loader(7, placement="resident")) == expected(folder)


def lengthen(image: U8, more: int) -> bytes:
    """Return a stored PNG that is longer by a text chunk."""
    plain, chunk = encode_png(image, "stored"), b"tEXt" + b"a" * (more - 12)
    return plain[:-12] + (more - 12).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + plain[-12:]


def test_files_that_fill_a_page_like_stored_ones_but_are_of_other_lengths_are_decoded(tmp_path: Path) -> None:
    saved: list[int] = []

    def encode(image: U8, kind: PngKind) -> bytes:
        """Make one file in three shorter, and the next one longer by as much."""
        small = encode_png(image, "small")
        saved.append(len(encode_png(image, "stored")) - len(small))
        which = len(saved) % 3
        return small if which == 1 else lengthen(image, saved[-2]) if which == 2 else encode_png(image, kind)

    folder = write(tmp_path / "set", encode, rows=3)

    assert min(saved) > 12 and contents(ladd.stream(folder, 7, shuffle=True)) == expected(folder)


def test_rows_that_deflate_cuts_in_two_are_copied(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", size=160)
    assert find_form((3, 160, 160)) is None

    for shuffle in (False, True):
        assert contents(ladd.stream(folder, 7, shuffle=shuffle)) == expected(folder)


def test_pages_of_more_files_than_one_call_can_read_are_read_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "set")
    monkeypatch.setattr(shard_files, "_MOST_SLOTS", 10)

    assert contents(ladd.stream(folder, 7, shuffle=True)) == expected(folder)


def test_a_batch_that_is_kept_stays_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", rows=3)
    loader = ladd.stream(folder, 2, shuffle=True)

    kept = [(batch.index, batch.image[1]) for epoch in range(3) for batch in loader if batch.index[0] % 2]

    for index, image in kept:
        assert np.array_equal(image.numpy(), decode(folder, int(index[1])))


def test_other_devices_get_planes(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")

    for batch in ladd.stream(folder, 7, device="meta"):
        assert batch.image.is_contiguous() and batch.image.device.type == "meta"


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 128, 128), (1, 1, 1), (3, 5, 7)])
def test_the_form_knows_where_pixels_are(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    form = find_form(shape)
    assert form is not None
    memory = np.full((4, form.slot_bytes), 7, np.uint8)

    for slot, image in zip(form.slots(memory), pixels, strict=True):
        slot[:] = form.length + encode_png(image, "stored")

    assert form.find_others(memory) == []
    assert np.array_equal(form.pixels(memory).transpose(0, 3, 1, 2), pixels)
    assert torch.equal(form.tensor(torch.from_numpy(memory)), torch.from_numpy(pixels))
    for at in (4, 4 + 43, 4 + 48, len(form.slots(memory)[2]) - 1):  # signature, deflate, first filter, end
        form.slots(memory)[2][at] ^= 1
        assert form.find_others(memory) == [2]
        form.slots(memory)[2][at] ^= 1


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 28, 28), (3, 128, 128), (3, 224, 224), (3, 200, 301), (1, 300, 300)]
)
def test_stored_pngs_are_unpacked_without_a_decoder(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    page = memoryview(b"".join(encode_png(image, "stored") for image in pixels))
    size = len(page) // 4
    files = [page[start : start + size] for start in range(0, len(page), size)]
    decoder = PictureDecoder(shape, png=True)
    monkeypatch.setattr(decoder, "_decode", None)

    out = np.zeros((4, shape[1], shape[2], shape[0]), np.uint8)
    decoder.fill(files, out)
    decoder.close()
    assert np.array_equal(out.transpose(0, 3, 1, 2), pixels)

    stored = StoredPngs(shape).find_all(np.frombuffer(page, np.uint8).reshape(4, size))
    assert stored is not None
    together, alone, planes = np.zeros_like(out), np.zeros_like(out), np.zeros_like(pixels)
    stored.copy(slice(0, 4), together)
    for row in range(4):
        stored.copy(row, alone[row])
    stored.copy(slice(0, 4), planes.transpose(0, 2, 3, 1))
    assert np.array_equal(together, out) and np.array_equal(alone, out) and np.array_equal(planes, pixels)


def test_pngs_that_are_stored_otherwise_go_to_the_decoder() -> None:
    shape = (3, 32, 32)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    plain = encode_png(pixels[0], "stored")
    filtered = bytearray(encode_png(pixels[2], "stored"))
    filtered[48 + 97] = 2  # a row that adds the one above: other pixels, and an Adler-32 that is wrong now
    decoder = PictureDecoder(shape, png=True)
    out = np.zeros((3, 32, 32, 3), np.uint8)

    decoder.fill([plain, encode_png(pixels[1], "small"), plain], out)
    assert np.array_equal(out[1].transpose(2, 0, 1), pixels[1])
    table = np.frombuffer(plain + bytes(filtered), np.uint8).reshape(2, -1)
    assert StoredPngs(shape).find_all(table[:1]) is not None and StoredPngs(shape).find_all(table) is None
    with pytest.raises(ValueError, match="damaged PNG"):
        decoder.fill([plain, bytes(filtered)], out[:2])
    decoder.close()
