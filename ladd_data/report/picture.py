"""A PNG of a few images: each beside its grid of views, each view above its dense label as bars."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ladd_data.dataset import Dataset
from ladd_data.files import write_atomically
from ladd_data.manifest import Grid, Labels, Opaque
from ladd_data.types import F32, U8

IMAGE_SIDE = 240
VIEW_SIDE = 56
BAR_HEIGHT = 28
GAP = 6
TITLE = 26
MAX_BARS = 16
"""Classes shown as bars; of more classes, the most probable ones."""

_INK, _FAINT, _PAPER = (34, 34, 34), (200, 205, 212), (255, 255, 255)
_HARD, _OTHER = (214, 96, 38), (70, 110, 170)


def draw_dataset(dataset: Dataset, path: Path, count: int = 3) -> None:
    """Draw up to `count` images, of different classes where there are, and write one PNG."""
    panels = [_draw_record(dataset, index) for index in _spread(dataset, count)]
    columns = min(2, len(panels))
    cell_width, cell_height = panels[0].width + 4 * GAP, panels[0].height + GAP
    width = columns * cell_width
    height = -(-len(panels) // columns) * cell_height + GAP + TITLE
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    labels = dataset.manifest.labels
    title = dataset.manifest.name
    if labels is not None:
        title += f": image, {labels.count} views, dense label of each (orange: the hard class)"
    draw.text((GAP, GAP), title, _INK, ImageFont.load_default(15))
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        sheet.paste(panel, (GAP + column * cell_width, GAP + TITLE + row * cell_height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def _spread(dataset: Dataset, count: int) -> list[int]:
    """Return record numbers: the first of each class, spread over the classes."""
    labels = dataset.arrays.labels
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    picks = np.linspace(0, len(firsts) - 1, min(count, len(firsts))).round().astype(int)
    return [firsts[pick] for pick in picks]


def _draw_record(dataset: Dataset, index: int) -> Image.Image:
    record = dataset[index]
    picture = _to_picture(record.image.numpy()).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.NEAREST)
    labels = dataset.manifest.labels
    if labels is not None and isinstance(labels.views, Opaque):
        labels = None  # of views that cannot be drawn
    cell = VIEW_SIDE + BAR_HEIGHT + GAP
    side = _columns(labels) if labels else 0
    rows = -(-labels.count // side) if labels else 0
    width = IMAGE_SIDE + (2 * GAP + side * (VIEW_SIDE + GAP) if labels else 0)
    panel = Image.new("RGB", (width, max(IMAGE_SIDE + 2 * TITLE, rows * cell)), _PAPER)
    panel.paste(picture, (0, 0))
    draw = ImageDraw.Draw(panel)
    draw.text(
        (0, IMAGE_SIDE + 4),
        f'"{dataset.classes[record.label]}", id {record.id}',
        _INK,
        ImageFont.load_default(14),
    )
    if labels is None or record.dense_labels is None:
        return panel
    views = dataset.views(record.image, normalize=False, index=[index])[0].numpy()
    for view in range(labels.count):
        row, column = divmod(view, side)
        left, top = IMAGE_SIDE + 2 * GAP + column * (VIEW_SIDE + GAP), row * cell
        crop = _to_picture(np.clip(np.rint(views[view]), 0, 255).astype(np.uint8))
        panel.paste(crop.resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.NEAREST), (left, top))
        _draw_bars(draw, (left, top + VIEW_SIDE + 2), record.dense_labels[view].numpy(), record.label)
    return panel


def _columns(labels: Labels) -> int:
    """Return how many views stand in a row: the grid's own number, else about a square."""
    return labels.views.n if isinstance(labels.views, Grid) else min(10, math.isqrt(labels.count - 1) + 1)


def _draw_bars(draw: ImageDraw.ImageDraw, corner: tuple[int, int], probs: F32, hard: int) -> None:
    """Draw one soft label: a bar per class in label order, or the most probable classes first."""
    left, top = corner
    shown = np.arange(len(probs)) if len(probs) <= MAX_BARS else np.argsort(-probs)[:MAX_BARS]
    step = VIEW_SIDE / len(shown)
    bottom = top + BAR_HEIGHT - 2
    draw.line((left, bottom, left + VIEW_SIDE - 1, bottom), _FAINT)
    for place, label in enumerate(shown):
        height = round(float(probs[label]) * (BAR_HEIGHT - 3))
        if height:
            x = left + place * step
            box = (round(x), bottom - height, round(x + step) - 2, bottom - 1)
            draw.rectangle(box, _HARD if label == hard else _OTHER)


def _to_picture(image: U8) -> Image.Image:
    rows = np.ascontiguousarray(image.transpose(1, 2, 0))
    return Image.fromarray(rows if rows.shape[2] == 3 else rows[:, :, 0]).convert("RGB")
