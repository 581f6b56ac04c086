"""The picture in a card: samples of the first classes, and one image with its views and their labels as bars.

Drawn in plain numpy, without a font or a plotting library, from the records in file order: equal datasets have equal
pictures, whatever their edition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ladd_data.encodings.coding import decode_probs
from ladd_data.manifest import Grid, Labels, Manifest, Opaque
from ladd_data.png import encode_png
from ladd_data.shards.folder import Folder
from ladd_data.shards.images import decode_image
from ladd_data.shards.layout import Records
from ladd_data.types import F32, U8
from ladd_data.views.reference import box_of, reference_view

PICTURE_PATH = "samples.png"
COLUMNS = 10
"""Classes in the picture, one a column."""
ROWS = 3
"""Images of a class at most; of many classes fewer."""
CELLS = 12
"""Images in all, about."""
MAX_READ = 4096
"""Records that are looked at: the picture must not cost a reading of the whole dataset."""
MAX_VIEWS = 64
"""Views that are drawn."""
TILE, SMALL_TILE, SMALLEST_TILE = 112, 56, 36
"""Sides of images, views, and views of more than 25, about: pixels are repeated or averaged a whole number of times."""
GAP, BARS = 4, 20
"""Pixels between pictures, and the height of a label's bars."""
MAX_BARS = 16

_PAPER, _FAINT, _HARD, _OTHER = (255, 255, 255), (200, 205, 212), (214, 96, 38), (70, 110, 170)


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file; the classes of its columns, by label; how many views of its first image are drawn, 0 for none."""

    file: bytes
    labels: tuple[int, ...]
    views: int


@dataclass(frozen=True, slots=True)
class _Sample:
    """An image, and where its record is."""

    label: int
    image: U8
    records: Records
    row: int


def draw_samples(folder: Folder) -> Picture | None:
    """Draw a dataset's picture; None where an image that it needs cannot be decoded."""
    try:
        if not (chosen := _choose(folder)):
            return None
        parts = [_draw_columns(chosen)]
        first = next(iter(chosen.values()))[0]
        labels = folder.manifest.labels
        views = min(labels.count, MAX_VIEWS) if labels is not None else 0
        if labels is not None and not isinstance(labels.views, Opaque):
            parts.append(_draw_views(folder.manifest, labels, first, views))
    except (ValueError, IndexError):  # damaged: the validator says where
        return None
    sheet = _stack(parts)
    return Picture(encode_png(np.ascontiguousarray(sheet.transpose(2, 0, 1)), "small"), tuple(chosen), views)


def say_picture(manifest: Manifest, picture: Picture) -> str:
    """Return what the picture shows, in a sentence or two."""
    names, labels = ", ".join(manifest.classes.names[label] for label in picture.labels), manifest.labels
    text = f"One column per class: {names}."
    if labels is None:
        return text
    which = "its views" if picture.views == labels.count else "some of its views"
    bars = f"of its {MAX_BARS} most probable classes" if len(manifest.classes.names) > MAX_BARS else "of each class"
    shown = f"each above its dense label: the probability {bars}, orange for the hard one"
    return f"{text} Below: the first image and {which}, {shown}."


def _choose(folder: Folder) -> dict[int, list[_Sample]]:
    """Return the first images of the first classes in file order, by label."""
    columns = min(COLUMNS, len(folder.manifest.classes.names))
    rows = min(ROWS, max(1, CELLS // columns))
    chosen: dict[int, list[_Sample]] = {}
    for label, records, row in _first(folder):
        if label not in chosen and len(chosen) == columns:
            continue
        samples = chosen.setdefault(label, [])
        if len(samples) < rows:
            samples.append(_Sample(label, decode_image(records.images, row, folder.layout), records, row))
        if len(chosen) == columns and all(len(samples) == rows for samples in chosen.values()):
            break
    return dict(sorted(chosen.items()))


def _first(folder: Folder) -> Iterator[tuple[int, Records, int]]:
    seen = 0
    for _, _, records in folder.records():
        for row, label in enumerate(records.labels[: MAX_READ - seen].tolist()):
            if 0 <= label < len(folder.manifest.classes.names):  # else the validator says it
                yield label, records, row
        seen += len(records)
        if seen >= MAX_READ:
            return


def _draw_columns(chosen: dict[int, list[_Sample]]) -> U8:
    return _row([_stack([_scale(sample.image, TILE) for sample in samples]) for samples in chosen.values()])


def _draw_views(manifest: Manifest, labels: Labels, sample: _Sample, count: int) -> U8:
    """Draw one image and, beside it, its views above their labels, in the order of the grid."""
    columns = {name: values[sample.row : sample.row + 1] for name, values in sample.records.dense.items()}
    probs = decode_probs(columns, labels.coding, len(manifest.classes.names))[0]
    present = columns.get("view_present", np.ones((1, labels.count), bool))[0]
    drawn = []
    for view in range(count):
        given = box_of(columns, 0, view)
        pixels = np.rint(reference_view(labels.views, sample.image, view, given)).clip(0, 255).astype(np.uint8)
        tile = _scale(pixels, SMALL_TILE if count <= 25 else SMALLEST_TILE)
        tile = tile if present[view] else np.full_like(tile, _FAINT)
        drawn.append(np.vstack([tile, _draw_bars(probs[view], sample.label, tile.shape[1], shown=bool(present[view]))]))
    side = labels.views.n if isinstance(labels.views, Grid) and labels.views.n <= 16 else 8
    grid = _stack([_row(drawn[start : start + side]) for start in range(0, count, side)])
    return _row([_scale(sample.image, TILE), grid])


def _draw_bars(probs: F32, hard: int, width: int, *, shown: bool) -> U8:
    """Draw one soft label: a bar per class in label order, or of many the most probable first."""
    strip = np.full((BARS, width, 3), _PAPER, np.uint8)
    strip[-2] = _FAINT
    classes = np.arange(len(probs)) if len(probs) <= MAX_BARS else np.argsort(-probs, kind="stable")[:MAX_BARS]
    edges = np.linspace(0, width, len(classes) + 1).round().astype(int)
    for place, label in enumerate(classes.tolist() if shown else []):
        height = round(float(probs[label]) * (BARS - 4))
        if height:
            stop = max(edges[place] + 1, edges[place + 1] - 1)
            strip[-2 - height : -2, edges[place] : stop] = _HARD if label == hard else _OTHER
    return strip


def _scale(image: U8, side: int) -> U8:
    """Return an image, uint8 [channels, height, width], as RGB [height, width, 3] of about that longer side."""
    rows = image.transpose(1, 2, 0)
    rows = rows if rows.shape[2] == 3 else rows.repeat(3, 2)
    longer = max(rows.shape[:2])
    if longer <= side:
        times = max(1, side // longer)
        return rows.repeat(times, 0).repeat(times, 1)
    step = -(-longer // side)
    height, width = (max(1, size // step) for size in rows.shape[:2])
    high, wide = min(step, rows.shape[0]), min(step, rows.shape[1])
    blocks = rows[: height * high, : width * wide].reshape(height, high, width, wide, 3)
    return np.asarray(np.rint(blocks.mean((1, 3))), np.uint8)


def _row(pictures: list[U8]) -> U8:
    """Put pictures side by side, with gaps; aligned at the top."""
    height = max(len(picture) for picture in pictures)
    sheet = np.full((height, sum(picture.shape[1] + GAP for picture in pictures) - GAP, 3), _PAPER, np.uint8)
    left = 0
    for picture in pictures:
        sheet[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return sheet


def _stack(pictures: list[U8]) -> U8:
    """Put pictures one below the other, with gaps; aligned at the left."""
    return _row([picture.transpose(1, 0, 2) for picture in pictures]).transpose(1, 0, 2)
