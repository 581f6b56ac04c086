"""What picture files' first bytes say: which are one dataset, how they will be stored, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_jpegs
from PIL import Image
from test_jpeg import exif, with_segment

from ladd_data import ConvertError, UsageError
from ladd_data.pictures import Pictures, open_pictures


def save(path: Path, mode: str = "RGB", size: int = 32, **options: Any) -> Path:
    """Write one picture, of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (size, size, 4), np.uint8)
    picture = Image.fromarray(noise)
    if mode == "P":
        picture = picture.convert("RGB").quantize(16)
    elif mode == "I;16":
        picture = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 256)
    elif mode != "RGBA":
        picture = picture.convert("RGB").convert(mode)
    picture.save(path, **options)
    return path


def test_jpeg_files_of_one_kind_are_kept(tmp_path: Path) -> None:
    files = make_jpegs(tmp_path, count=3)

    pictures = open_pictures(files)

    assert isinstance(pictures, Pictures)
    assert (pictures.encoding, pictures.shape, pictures.notes) == ("jpeg", (3, 3, 32, 32), ())
    assert [pictures.read(number) for number in range(3)] == [file.read_bytes() for file in files]
    assert open_pictures(make_jpegs(tmp_path / "grey", mode="L")).shape == (6, 1, 32, 32)


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"quality": 95, "subsampling": 0}])
def test_jpeg_files_of_other_encoders_among_them_are_kept_too(tmp_path: Path, options: dict[str, Any]) -> None:
    files = [*make_jpegs(tmp_path / "a"), *make_jpegs(tmp_path / "b", **options)]

    assert open_pictures(files).encoding == "jpeg"


def test_a_long_header_is_read_to_its_end(tmp_path: Path) -> None:
    file = make_jpegs(tmp_path, count=1)[0]
    file.write_bytes(with_segment(file.read_bytes(), 0xE2, bytes(9000)))

    assert open_pictures([file]).shape == (1, 3, 32, 32)


def test_png_files_and_mixtures_are_stored_as_png_and_it_is_said_why(tmp_path: Path) -> None:
    png, grey = save(tmp_path / "a.png"), save(tmp_path / "grey.jpg", "L")
    jpeg, palette = save(tmp_path / "b.jpg"), save(tmp_path / "c.png", "P")

    mixed, kinds, greys = open_pictures([png, jpeg]), open_pictures([jpeg, grey]), open_pictures([png, palette])

    assert [pictures.encoding for pictures in (mixed, kinds, greys)] == ["png"] * 3
    assert kinds.shape == (2, 3, 32, 32)
    assert "others are not JPEG" in mixed.notes[0]
    assert "some are greyscale and others RGB" in kinds.notes[0] and "1 greyscale file" in kinds.notes[1]
    for pictures, files in ((mixed, [png, jpeg]), (kinds, [jpeg, grey]), (greys, [png, palette])):
        for number, file in enumerate(files):
            with Image.open(file) as picture:
                expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
            assert np.array_equal(pictures.decode(number, pictures.read(number)), expected)


def test_opaque_alpha_is_dropped_and_any_other_refused(tmp_path: Path) -> None:
    opaque = tmp_path / "a.png"
    Image.new("RGBA", (32, 32), (9, 8, 7, 255)).save(opaque)
    seen_through = open_pictures([opaque, save(tmp_path / "b.png", "RGBA")])

    assert seen_through.decode(0, seen_through.read(0))[:, 0, 0].tolist() == [9, 8, 7]
    with pytest.raises(ConvertError, match=r"b\.png: found a picture that is see-through"):
        seen_through.decode(1, seen_through.read(1))


def write(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def turned(folder: Path) -> Path:
    file = save(folder / "turned.jpg")
    file.write_bytes(with_segment(file.read_bytes(), 0xE1, exif(6, "MM")))
    return file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (write("x.jpg", b""), r"x\.jpg: found an empty file \(1 of 7 files\).*again, or leave"),
        (write("x.jpg", b"<html>404</html>"), "no picture"),
        (write("x.jpg", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer.*git lfs pull"),
        (write("x.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF"), "breaks off in its header"),
        (lambda folder: folder / "missing.jpg", "No such file"),
        (lambda folder: save(folder / "x.jpg", "CMYK"), "CMYK.*colorspace sRGB"),
        (lambda folder: save(folder / "x.png", "I;16"), "16 bits"),
        (lambda folder: save(folder / "x.jpg", size=16), r"16x16 among 6 of 32x32 \(1 of 7 files differ\)"),
        (turned, "EXIF note turns it.*auto-orient"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_file_number_and_way_out(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    files = [*make_jpegs(tmp_path / "good"), make(tmp_path)]

    with pytest.raises(ConvertError, match=words) as caught:
        open_pictures(files)
    assert "\n" not in str(caught.value)


def test_no_files_at_all_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no picture files"):
        open_pictures([])


def test_files_looked_at_in_several_pieces_are_judged_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_jpegs(tmp_path / "files", count=9)
    odd = [save(tmp_path / "odd" / f"{number}.jpg", size=size) for number, size in ((0, 16), (1, 16), (2, 8))]
    empty = [write(f"{number}.jpg", b"")(tmp_path) for number in range(3)]
    cases = ([*files, *odd], [*files[:3], empty[0], *files[3:], *empty[1:]], [*odd, *files])

    def judge() -> list[str]:
        said = []
        for case in cases:
            with pytest.raises(ConvertError) as caught:
                open_pictures(case)
            said.append(str(caught.value))
        return said

    in_one = judge()
    monkeypatch.setattr("ladd_data.picture_heads.LOOKS_AT_ONCE", 2)

    assert judge() == in_one
    named = [words.split(":")[0].removeprefix(str(tmp_path)) for words in in_one]
    assert named == ["/odd/0.jpg", "/0.jpg", "/odd/0.jpg"]
    assert open_pictures(files).shape == (9, 3, 32, 32)
