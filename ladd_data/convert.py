"""Write what a converter read as a dataset: check it, quantise its pixels, describe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ladd_data.converter import Distilled, SoftValues
from ladd_data.digests import Digests
from ladd_data.errors import ConvertError, UsageError
from ladd_data.files import sha256_file
from ladd_data.manifest import (
    MAX_SIDE,
    SPEC_VERSION,
    Distillation,
    Images,
    Manifest,
    Normalization,
    Soft,
    SourceFile,
)
from ladd_data.pixels import StoredPixels, quantize
from ladd_data.png import PngKind, choose_png, encode_png
from ladd_data.recipe import Recipe
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.writer import new_dataset
from ladd_data.types import F32, I64, Columns, ColumnTypes

RECORDS_AT_ONCE = 1024
MAX_VALUE = 1e30
"""A larger pixel overflows float32 on the way to its range."""

PixelMode = Literal["auto", "clip", "range"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A distilled set with its pixels quantised: everything that will be written."""

    name: str
    license: str | None
    distilled: Distilled
    stored: StoredPixels
    png: PngKind


def prepare(
    distilled: Distilled,
    name: str,
    *,
    pixels: PixelMode = "auto",
    png: PngKind | Literal["auto"] = "auto",
    license: str | None = None,
) -> Conversion:
    """Check a distilled set and quantise its pixels; writes nothing.

    Raises:
        ConvertError: images and labels do not fit together, a value is not finite, a class is missing.
        UsageError: `clip` was asked for ZCA-whitened pixels, which have no natural range.
    """
    check_distilled(distilled)
    if pixels == "clip" and distilled.normalization is None:
        raise UsageError("--pixels clip: whitened pixels have no picture range to clip to. Use range.")
    stored = quantize(distilled.images, distilled.normalization, pixels)
    kind: PngKind = choose_png(stored.pixels) if png == "auto" else png
    return Conversion(name, license, distilled, stored, kind)


def convert(conversion: Conversion, target: Path, *, overwrite: bool = False) -> Manifest:
    """Write a prepared conversion as a dataset folder, whole or not at all, and return its manifest.

    Records keep the source's order; their ids are its positions, "000000", "000001", ...

    Raises:
        UsageError: the target exists and `overwrite` is not set.
    """
    distilled, pixels = conversion.distilled, conversion.stored.pixels
    labels, soft, names = distilled.labels, distilled.soft, distilled.classes.names
    count, channels, height, width = pixels.shape
    columns: ColumnTypes = {f"soft_{soft.space}": ((len(names),), "float32")} if soft else {}
    layout = Layout(names, columns, (channels, height, width), conversion.png)
    with new_dataset(target, distilled.classes, layout, count, overwrite=overwrite) as writer:
        for start in range(0, count, RECORDS_AT_ONCE):
            part = slice(start, start + RECORDS_AT_ONCE)
            images = [encode_png(image, conversion.png) for image in pixels[part]]
            ids = [f"{number:06d}" for number in range(start, start + len(images))]
            own: Columns = {f"soft_{soft.space}": soft.values[part]} if soft else {}
            writer.add(Records(ids, labels[part], images, own), pixels[part])
        return writer.finish(lambda digests: _describe(conversion, digests))


def check_distilled(distilled: Distilled) -> None:
    """Check what every converter must deliver.

    Raises:
        ConvertError: names the files, what was found and what was expected.
    """
    files = " + ".join(map(str, distilled.files)) or distilled.method
    _check_images(files, distilled.images, distilled.normalization)
    _check_labels(files, distilled.labels, len(distilled.images), distilled.classes.names)
    if distilled.soft is not None:
        _check_soft(files, distilled.soft, (len(distilled.images), len(distilled.classes.names)))


def _check_images(files: str, images: F32, normalization: Normalization | None) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        expected = "[n, 3 or 1, height, width], none of them 0"
        raise ConvertError(f"{files}: found images of shape {images.shape}; expected {expected}.")
    if max(images.shape[2:]) > MAX_SIDE:
        raise ConvertError(f"{files}: found images of shape {images.shape}; expected sides of at most {MAX_SIDE}.")
    bad = ~np.isfinite(images).all(axis=(1, 2, 3))
    if bad.any():
        raise ConvertError(
            f"{files}: found NaN or infinity in {int(bad.sum())} of {len(images)} images (first: number "
            f"{int(bad.argmax())}); expected finite pixels. The run diverged: convert an earlier iteration."
        )
    largest = float(np.abs(images).max())
    if largest > MAX_VALUE:
        raise ConvertError(
            f"{files}: found a pixel of {largest:.3g}; expected at most {MAX_VALUE:g}. The run diverged."
        )
    channels = images.shape[1]
    if normalization is not None and len(normalization.mean) != channels:
        given = f"{len(normalization.mean)}, as the normalization given has"
        raise ConvertError(f"{files}: found {channels} channel(s); expected {given}.")


def _check_soft(files: str, soft: SoftValues, shape: tuple[int, int]) -> None:
    if soft.values.shape != shape or soft.values.dtype != np.float32:
        found = f"soft labels {soft.values.dtype} {list(soft.values.shape)}"
        raise ConvertError(f"{files}: found {found}; expected float32 {list(shape)}.")
    if not np.isfinite(soft.values).all():
        raise ConvertError(f"{files}: found NaN or infinity in the soft labels; expected finite numbers.")
    sums = soft.values.sum(1, dtype=np.float64)
    if soft.space == "probs" and (soft.values.min() < 0 or np.abs(sums - 1).max() > 1e-3):
        found = f"soft labels that sum to {sums.min():.4g} .. {sums.max():.4g}"
        raise ConvertError(f"{files}: found {found}; expected probabilities. Are they logits?")


def _check_labels(files: str, labels: I64, images: int, names: tuple[str, ...]) -> None:
    if images != len(labels):
        raise ConvertError(
            f"{files}: found {images} images and {len(labels)} labels; expected as many of each. "
            "The two files are of different runs (another IPC?): find the labels file of this run."
        )
    if labels.min() < 0 or labels.max() >= len(names):
        found = f"labels {labels.min()} .. {labels.max()}"
        raise ConvertError(f"{files}: found {found}; expected 0 .. {len(names) - 1}, the {len(names)} classes given.")
    per_class = np.bincount(labels, minlength=len(names))
    if (per_class == 0).any():
        raise ConvertError(
            f'{files}: found no image of class "{names[int(per_class.argmin())]}"; expected {len(names)} classes. '
            "Give the classes this run was made for."
        )


def _describe(conversion: Conversion, digests: Digests) -> Manifest:
    distilled, stored = conversion.distilled, conversion.stored
    count, channels, height, width = stored.pixels.shape
    images = Images.model_validate(
        {
            "count": count,
            "height": height,
            "width": width,
            "channels": channels,
            "png": conversion.png,
            "affine": stored.affine,
            "normalization": distilled.normalization,
            "whitening": distilled.whitening,
            "quantization": stored.quantization,
            "digest": digests.images,
        }
    )
    return Manifest(
        spec_version=SPEC_VERSION,
        name=conversion.name,
        license=conversion.license,
        classes=distilled.classes,
        images=images,
        distillation=Distillation(
            method=distilled.method,
            repository=distilled.repository,
            ipc=_ipc(distilled.labels),
            mosaic_factor=distilled.mosaic_factor,
            learned_lr=distilled.learned_lr,
            read=distilled.read,
            asserted=distilled.asserted,
            files=tuple(_source_file(path) for path in distilled.files),
        ),
        soft=_describe_soft(distilled.soft, digests),
        recipe=distilled.recipe or Recipe(loss="hard-ce"),
        digest=digests.dataset,
    )


def _describe_soft(soft: SoftValues | None, digests: Digests) -> Soft | None:
    if soft is None or digests.soft is None:
        return None
    return Soft(space=soft.space, temperature=soft.temperature, digest=digests.soft)


def _ipc(labels: I64) -> int | None:
    per_class = np.bincount(labels)
    return int(per_class[0]) if (per_class == per_class[0]).all() else None


def _source_file(path: Path) -> SourceFile:
    name = path.name.encode(errors="backslashreplace").decode()  # a name that is not UTF-8 cannot stand in JSON
    return SourceFile(path=name, bytes=path.stat().st_size, sha256=sha256_file(path))
