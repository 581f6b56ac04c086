"""Write the golden vectors of the spec: `python spec/golden/make.py`. A test fails when they are stale."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np

from ladd_data.encodings.coding import decode_probs, encode_labels
from ladd_data.files import canonical_json, write_atomically
from ladd_data.manifest import Boxes, Coding, Mix, Resample
from ladd_data.types import F32, U8, Columns
from ladd_data.views.geometry import Box, boxes, crop_side, grid, offsets
from ladd_data.views.reference import RecordBox, box_of, mix_of, mix_reference, reference_view

HERE = Path(__file__).parent
VIEW_CASES = [(5, "5/8", size) for size in (32, 64, 96, 128, 224, 256)]
VIEW_CASES += [(5, "5/8", 50), (7, "1/2", 128), (3, "3/4", 33), (1, "2/3", 32), (2, "1/1", 16)]


def golden_image(size: int) -> U8:
    """Return the test picture, uint8 [3, size, size]: pixel = (7 y + 13 x + 101 c + x y mod 251) mod 256."""
    y, x = np.mgrid[:size, :size]
    channels = [(7 * y + 13 * x + 101 * c + (x * y) % 251) % 256 for c in range(3)]
    return np.stack(channels).astype(np.uint8)


def golden_logits() -> F32:
    """Return test logits, float32 [1, 4, 10]: quarter steps from confident to flat, one far-off class."""
    steps = (np.arange(40).reshape(1, 4, 10) * 37 % 41 - 20) / 4
    scale = np.array([4.0, 1.0, 0.25, 0.0]).reshape(1, 4, 1)
    return np.asarray(steps * scale, np.float32)


def view_vectors() -> list[dict[str, object]]:
    """Return, for each case, geometry and the SHA-256 of all views in order, little-endian float32."""
    vectors: list[dict[str, object]] = []
    for n, ratio, size in VIEW_CASES:
        spec, image = grid(n, ratio), golden_image(size)
        views = [reference_view(spec, image, view) for view in range(n * n)]
        starts = offsets(spec, size)
        vectors.append(
            {
                "n": n,
                "ratio": ratio,
                "size": size,
                "side": crop_side(spec, size),
                "offsets": list(starts),
                "last_box": [getattr(boxes(spec, size, size)[-1], name) for name in ("y", "x", "height", "width")],
                "first_values": [float(value) for value in views[0][0, 0, :4]],
                "sha256": hashlib.sha256(np.stack(views).astype("<f4").tobytes()).hexdigest(),
            }
        )
    return vectors


CODINGS = {
    "float32": Coding(dtype="float32", logz=True),
    "float16": Coding(dtype="float16", logz=True),
    "bfloat16": Coding(dtype="bfloat16"),
    "probs": Coding(space="probs", dtype="float32"),
    "logits": Coding(space="logits", dtype="float16"),
    "q8": Coding(encoding="q8", logz=True),
    "q4": Coding(encoding="q4"),
    "topk": Coding(encoding="topk", k=3),
}


def label_vectors() -> list[dict[str, object]]:
    """Return, for each coding, the stored bytes and the probabilities they decode to."""
    vectors: list[dict[str, object]] = []
    for name, coding in CODINGS.items():
        columns = encode_labels(golden_logits(), coding)
        probs = decode_probs(columns, coding, 10)
        stored = {key: values.astype(values.dtype.newbyteorder("<")).tobytes().hex() for key, values in columns.items()}
        rounded = [[round(float(p), 6) for p in row] for row in probs[0]]
        fields = coding.model_dump(mode="json")
        vectors.append({"name": name, "coding": fields, "classes": 10, "views": 4, "columns": stored, "probs": rounded})
    return vectors


def mixed_view_vectors() -> list[dict[str, object]]:
    """Return, for each case, two records' view columns and the SHA-256 of their mixed views, little-endian float32.

    Record "a" is the test picture, record "b" the same turned upside down; each partner is the other one.
    """
    vectors: list[dict[str, object]] = []
    ways: tuple[Literal["bilinear", "pillow-bilinear"], ...] = ("bilinear", "pillow-bilinear")
    for resample in ways:
        for size in (32, 50):
            spec = Mix(count=3, flip=True, cutmix=True, mixup=True, resample=resample)
            columns = mix_columns(size)
            images = [golden_image(size), np.ascontiguousarray(golden_image(size)[:, ::-1])]
            views = []
            for row, view in ((row, view) for row in range(2) for view in range(3)):
                place = mix_of(columns, row, view)
                own = reference_view(spec, images[row], view, box_of(columns, row, view))
                if place is not None:
                    given = box_of(columns, place.partner, place.view)
                    own = mix_reference(own, reference_view(spec, images[place.partner], place.view, given), place)
                views.append(own)
            digest = hashlib.sha256(np.stack(views).astype("<f4").tobytes()).hexdigest()
            first = [float(value) for value in views[1][0, 0, :4]]
            stored = {name: values.tolist() for name, values in columns.items()}
            about = {"size": size, "views": spec.model_dump(mode="json"), "columns": stored}
            vectors.append({**about, "first_values_of_view_1": first, "sha256": digest})
    return vectors


def resized_view_vectors() -> list[dict[str, object]]:
    """Return, for each case, a crop of the test picture, the side of its view, and that view's SHA-256."""
    vectors: list[dict[str, object]] = []
    crops = [(0, 0, 50, 50), (3, 1, 47, 9), (7, 2, 11, 48), (20, 30, 5, 3), (1, 1, 30, 21)]
    ways: tuple[Resample, ...] = ("bilinear", "pillow-bilinear", "pillow-bicubic", "pillow13-bicubic")
    for resample in ways:
        for size in (7, 24, 50):
            spec = Boxes(count=len(crops), size=size, resample=resample)
            for view, crop in enumerate(crops):
                cut = reference_view(spec, golden_image(50), view, RecordBox(Box(*crop), False))
                digest = hashlib.sha256(cut.astype("<f4").tobytes()).hexdigest()
                about = {"views": spec.model_dump(mode="json"), "view": view, "box": list(crop)}
                vectors.append({**about, "first_values": [float(v) for v in cut[0, 0, :4]], "sha256": digest})
    return vectors


def mix_columns(size: int) -> Columns:
    """Return view columns of two records with three views: pasted, blended, and neither."""
    half, third = size // 2, size // 3
    box = [[[0, 1, half, third], [third, 0, size - third, size], [2, 2, size - 3, half]]] * 2
    return {
        "view_box": np.array(box, np.uint16),
        "view_flip": np.array([[False, True, False], [True, False, True]]),
        "view_partner": np.array([[1, 1, 1], [0, 0, 0]], np.uint32),
        "view_partner_view": np.array([[2, 0, 1], [0, 1, 2]], np.uint16),
        "view_mix_box": np.array([[[3, 5, half, third], [0, 0, 0, 0], [0, 4, 0, 7]]] * 2, np.uint16),
        "view_mix_lambda": np.array([[1, 0.3, 1], [1, 0.8125, 1]], np.float32),
    }


def main() -> None:
    """Write the files."""
    write_atomically(HERE / "views.json", canonical_json(view_vectors()))
    write_atomically(HERE / "labels.json", canonical_json(label_vectors()))
    write_atomically(HERE / "mixed_views.json", canonical_json(mixed_view_vectors()))
    write_atomically(HERE / "resized_views.json", canonical_json(resized_view_vectors()))


if __name__ == "__main__":
    main()
