"""Cases whose images are JPEG files, in each edition: valid ones, and ones with a single mistake."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from building import LABELLED, Draft, Plan, make_draft
from cases import Case, at, drop_face
from PIL import Image

from ladd_data.digests import Digests
from ladd_data.jpeg import decode_jpeg, read_jpeg_header
from ladd_data.manifest import Classes, Manifest
from ladd_data.types import U8, Edition
from ladd_data.views.geometry import grid
from ladd_data.views.golden import digest_view
from ladd_data.views.reference import reference_view
from ladd_data.writer import new_dataset

PLAIN = Plan(mode="none")
COUNT = 2
SUFFIXES: dict[Edition, str] = {"parquet": "parquet", "webdataset": "tar", "arrow": "arrow"}


def encode(image: U8, **options: Any) -> bytes:
    """Return pixels, uint8 [channels, height, width], as a JPEG file."""
    buffer = io.BytesIO()
    rows = image.transpose(1, 2, 0)
    Image.fromarray(rows if len(image) == 3 else rows[:, :, 0]).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class JpegCase(Case):
    """One dataset of JPEG files.

    edition: of its shards. options: of the encoder. pixels: makes the pixels beside the files wrong.
    """

    plan: Plan = PLAIN
    edition: Edition = "parquet"
    options: tuple[tuple[str, Any], ...] = ()
    pixels: Callable[[U8], object] = lambda pixels: None

    def write(self, home: Path) -> None:
        """Write the case's folder: the dataset in `set/`, the verdict beside it."""
        draft = make_draft(replace(self.plan, count=COUNT, classes=("ant", "bee")))
        draft.records.images = [encode(image, **dict(self.options)) for image in draft.pixels]
        draft.pixels[:] = [decode_jpeg(data, *draft.pixels.shape[1:]) for data in draft.records.images]
        draft.layout = replace(draft.layout, png=None)
        self._describe(draft)
        self.change(draft)
        self.pixels(draft.pixels)
        home.mkdir(parents=True)
        classes = Classes.model_validate_json(json.dumps(draft.document["classes"]))
        with new_dataset(home / "set", classes, draft.layout, COUNT, edition=self.edition) as writer:
            writer.add(draft.records, draft.pixels)
            digests = writer.digests()
            manifest = self._manifest(draft, digests)
            content = json.dumps(draft.document, ensure_ascii=False, indent=2) + "\n"
            writer.seal(manifest, content.encode())
        drop_face(home / "set", manifest, self.edition)
        problems = [{"clause": clause, "where": where} for clause, where in self.problems]
        expected = {"about": self.about, "valid": not problems, "problems": problems}
        text = json.dumps(expected, ensure_ascii=False, indent=2) + "\n"
        (home / "expected.json").write_text(text, encoding="utf-8")

    def _describe(self, draft: Draft) -> None:
        """State JPEG files, and the golden views of what they decode to."""
        images, labels = draft.document["images"], draft.document["labels"]
        images.update(encoding="jpeg", png=None)
        images["quantization"].update(mode="none", error={"rmse": 0.0, "max_abs": 0.0, "clipped_share": 0.0})
        for golden in labels["golden"] if labels else ():
            pixels = draft.pixels[draft.records.ids.index(golden["id"])]
            golden["pixels"] = digest_view(
                reference_view(grid(self.plan.n, self.plan.ratio), pixels, int(golden["view"]))
            )

    def _manifest(self, draft: Draft, digests: Digests) -> Manifest:
        """Return the honest manifest; afterwards the document is as it goes to disk."""
        document = draft.document
        document["images"]["digest"], document["digest"] = digests.images, digests.dataset
        if document["labels"]:
            document["labels"]["digest"] = digests.labels
        manifest = Manifest.model_validate_json(json.dumps(document))
        self.state(document)
        return manifest


def shard(edition: Edition = "parquet") -> str:
    """Return the path of the only shard."""
    return f"data/train-00000-of-00001.{SUFFIXES[edition]}"


def put(make: Callable[[bytes], bytes], row: int = 1) -> Callable[[Draft], None]:
    """Return a change of a draft: one image's bytes."""

    def change(draft: Draft) -> None:
        images = list(draft.records.images)
        images[row] = make(images[row])
        draft.records.images = images

    return change


def other(mode: str = "RGB", size: tuple[int, int] = (8, 8), kind: str = "JPEG", **options: Any) -> bytes:
    """Return another picture file."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def turn(data: bytes) -> bytes:
    """Put an EXIF note behind the first marker that says: turned by a quarter."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    note = b"Exif\0\0MM\0*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    return data[:2] + b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note + data[2:]


def repeat_scan(data: bytes) -> bytes:
    """Repeat the scan two hundred times."""
    start = read_jpeg_header(data).scan
    return data[:start] + data[start:-2] * 200 + data[-2:]


def fatten(data: bytes) -> bytes:
    """Put two comments of 40 kB before the end."""
    return data[:-2] + (b"\xff\xfe\x9c\x42" + bytes(40000)) * 2 + data[-2:]


def enlarge(data: bytes) -> bytes:
    """State sides of 65,535 pixels."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + b"\xff" * 4 + data[place + 4 :]


def brighten(pixels: U8) -> None:
    """Change one pixel of the second image."""
    pixels[1, 0, 0, 0] ^= 128


def state_png(document: dict[str, Any]) -> None:
    """State a kind of PNG for JPEG files."""
    document["images"]["png"] = "stored"


def wrong(name: str, about: str, make: Callable[[bytes], bytes], clause: str = "LADD-029") -> JpegCase:
    """Return a case of one file that is wrong."""
    return JpegCase(f"jpeg-{name}", about, change=put(make), problems=((clause, at(shard(), 1)),))


VALID = [
    JpegCase("jpeg-unlabelled", "JPEG files, no dense labels."),
    JpegCase("jpeg-greyscale", "JPEG files of one channel.", replace(PLAIN, channels=1)),
    JpegCase("jpeg-progressive", "Progressive JPEG files.", options=(("progressive", True),)),
    JpegCase("jpeg-not-square", "JPEG files wider than high.", replace(PLAIN, width=13)),
    JpegCase("jpeg-labelled", "JPEG files with dense labels and golden views.", LABELLED),
    JpegCase("jpeg-tar", "JPEG files in tar shards.", LABELLED, edition="webdataset"),
    JpegCase("jpeg-arrow", "JPEG files beside their pixels.", LABELLED, edition="arrow"),
]

INVALID = [
    wrong("that-is-png", "A PNG file among JPEG ones.", lambda data: other(kind="PNG")),
    wrong("cut-short", "A JPEG without its end.", lambda data: data[:-20]),
    wrong("with-bytes-behind", "Bytes behind the end.", lambda data: data + b"more"),
    wrong("of-other-size", "A JPEG of 16 x 8.", lambda data: other(size=(16, 8))),
    wrong("greyscale-among-rgb", "A greyscale JPEG.", lambda data: other("L")),
    wrong("cmyk", "A JPEG of four channels.", lambda data: other("CMYK")),
    wrong("turned", "A JPEG that its EXIF note turns.", turn),
    wrong("bomb", "A JPEG that states sides of 65,535.", enlarge),
    wrong("arithmetic", "An arithmetic-coded frame.", lambda data: data.replace(b"\xff\xc0", b"\xff\xc9", 1)),
    wrong("of-nothing", "No bytes at all.", lambda data: b""),
    wrong("of-many-scans", "Two hundred scans.", repeat_scan, "LADD-084"),
    wrong("too-large", "Eighty kB of comments.", fatten, "LADD-084"),
    JpegCase(
        "jpeg-tar-cut-short",
        "A tar with a JPEG without its end.",
        edition="webdataset",
        change=put(lambda data: data[:-20]),
        problems=(("LADD-029", at(shard("webdataset"), 1)),),
    ),
    JpegCase(
        "jpeg-arrow-other-pixels",
        "Pixels that the JPEG beside them does not decode to.",
        edition="arrow",
        pixels=brighten,
        problems=(("LADD-074", at(shard("arrow"), 1)),),
    ),
    JpegCase(
        "jpeg-with-png-kind",
        "images.png is stated for JPEG files.",
        state=state_png,
        problems=(("LADD-013", at("meta/ladd.json")),),
    ),
]
