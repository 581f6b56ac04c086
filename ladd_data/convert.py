"""Write what a converter read as a dataset: check it, quantise its pixels or keep its files, describe it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ladd_data.converter import Distilled, SoftValues
from ladd_data.digests import Digests, digest_pixels
from ladd_data.errors import ConvertError, UsageError
from ladd_data.manifest import (
    MAX_SIDE,
    SPEC_VERSION,
    Affine,
    Distillation,
    Images,
    Manifest,
    Normalization,
    PixelError,
    Quantization,
    Soft,
)
from ladd_data.pictures import FilePictures, Pictures
from ladd_data.pixels import natural_affine, quantize
from ladd_data.png import PngKind, choose_png, encode_png
from ladd_data.recipe import Recipe
from ladd_data.shards.layout import Layout, Records
from ladd_data.source_files import SourceFiles
from ladd_data.types import F32, I64, U8, Columns, ColumnTypes
from ladd_data.writer import DatasetWriter, new_dataset

RECORDS_AT_ONCE = 1024
FILES_AT_ONCE = 2048
PIXELS_AT_ONCE = 8 * 2**20
"""Bytes of pixels that the files handed to a thread at once decode to, where they are decoded."""
THREADS = 2
PNG_SAMPLE = 64
MAX_VALUE = 1e30
"""A larger pixel overflows float32 on the way to its range."""

PixelMode = Literal["auto", "clip", "range"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A distilled set with its pixels quantised, or its picture files looked at: everything that will be written.

    stored: uint8 [n, channels, height, width], or picture files. png: how pixels become PNG files; None for
    JPEG files that are kept.
    """

    name: str
    license: str | None
    distilled: Distilled
    stored: U8 | Pictures
    affine: Affine
    quantization: Quantization
    png: PngKind | None


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
        UsageError: `clip` was asked for ZCA-whitened pixels, which have no natural range; or a way of storing
            for picture files that are kept as they are.
    """
    check_distilled(distilled)
    if isinstance(distilled.images, Pictures):
        return _prepare_pictures(distilled, distilled.images, name, license, pixels, png)
    if pixels == "clip" and distilled.normalization is None:
        raise UsageError("--pixels clip: whitened pixels have no picture range to clip to. Use range.")
    stored = quantize(distilled.images, distilled.normalization, pixels)
    kind: PngKind = choose_png(stored.pixels) if png == "auto" else png
    return Conversion(name, license, distilled, stored.pixels, stored.affine, stored.quantization, kind)


def _prepare_pictures(
    distilled: Distilled,
    pictures: Pictures,
    name: str,
    license: str | None,
    pixels: PixelMode,
    png: PngKind | Literal["auto"],
) -> Conversion:
    if pixels != "auto":
        raise UsageError(
            f"--pixels {pixels}: the images are 8-bit pictures, so there is nothing to quantise. Leave it out."
        )
    if distilled.normalization is None:
        raise UsageError("--normalization: picture files do not say what the method's networks were fed. Give it.")
    kind: PngKind | None = None
    if pictures.encoding == "jpeg":
        if png != "auto":
            raise UsageError(f"--png {png}: the images are JPEG files and are kept as they are. Leave it out.")
    else:
        kind = _choose_png(pictures) if png == "auto" else png
    exact = Quantization(mode="none", error=PixelError(rmse=0, max_abs=0, clipped_share=0))
    return Conversion(name, license, distilled, pictures, natural_affine(distilled.normalization), exact, kind)


def _choose_png(pictures: Pictures) -> PngKind:
    count = pictures.shape[0]
    sample = range(0, count, max(1, -(-count // PNG_SAMPLE)))
    return choose_png(np.stack([pictures.decode(number, pictures.read(number)) for number in sample]))


def convert(conversion: Conversion, target: Path, *, overwrite: bool = False) -> Manifest:
    """Write a prepared conversion as a dataset folder, whole or not at all, and return its manifest.

    Records keep the source's order; their ids are its positions, "000000", "000001", ...

    Raises:
        UsageError: the target exists and `overwrite` is not set.
    """
    distilled, stored = conversion.distilled, conversion.stored
    soft, names = distilled.soft, distilled.classes.names
    count, channels, height, width = stored.shape
    columns: ColumnTypes = {f"soft_{soft.space}": ((len(names),), "float32")} if soft else {}
    layout = Layout(names, columns, (channels, height, width), conversion.png)
    sources = SourceFiles(distilled.files)
    with new_dataset(target, distilled.classes, layout, count, overwrite=overwrite) as writer:
        if isinstance(stored, Pictures):
            _add_pictures(writer, conversion, stored, sources)
        else:
            _add_pixels(writer, conversion, stored)
        return writer.finish(lambda digests: _describe(conversion, digests, sources))


def _add_pixels(writer: DatasetWriter, conversion: Conversion, pixels: U8) -> None:
    for start in range(0, len(pixels), RECORDS_AT_ONCE):
        part = pixels[start : start + RECORDS_AT_ONCE]
        images = [encode_png(image, conversion.png or "stored") for image in part]
        writer.add(_records(conversion.distilled, start, images), part)


def _add_pictures(writer: DatasetWriter, conversion: Conversion, pictures: Pictures, sources: SourceFiles) -> None:
    """Read every file once, in threads that run a little ahead of the writer."""
    at_once = FILES_AT_ONCE
    if conversion.png is not None:
        at_once = max(1, min(at_once, PIXELS_AT_ONCE // prod(pictures.shape[1:])))
    cuts = (group[start : start + at_once] for group in writer.plan.groups() for start in range(0, len(group), at_once))
    with ThreadPoolExecutor(THREADS) as pool:
        parts = ((cut.start, pool.submit(_read_part, pictures, cut, conversion.png)) for cut in cuts)
        waiting = deque(islice(parts, 2 * THREADS))
        try:
            while waiting:
                start, job = waiting.popleft()
                part = job.result()
                waiting.extend(islice(parts, 1))
                sources.add_all(part.files, part.sizes, part.sha256)
                writer.add(_records(conversion.distilled, start, part.images), None, part.digests)
        finally:
            for _, job in waiting:
                job.cancel()


class _Part(NamedTuple):
    """Pictures on their way: the files to store and their digests; path, size and SHA-256 of the files they were."""

    images: Sequence[bytes]
    digests: list[str]
    files: list[str]
    sizes: list[int]
    sha256: list[str]


def _read_part(pictures: Pictures, numbers: range, png: PngKind | None) -> _Part:
    files = [pictures.file(number) for number in numbers]
    if png is None and isinstance(pictures, FilePictures):
        joined = pictures.read_joined(numbers)
        views = joined.views()
        sizes, sha256 = [len(data) for data in views], [hashlib.sha256(data).hexdigest() for data in views]
        return _Part(joined, sha256, files, sizes, sha256)
    read = [pictures.read(number) for number in numbers]
    sizes, sha256 = [len(data) for data in read], [hashlib.sha256(data).hexdigest() for data in read]
    if png is None:
        return _Part(read, sha256, files, sizes, sha256)
    images, digests = [], []
    for number, data in zip(numbers, read, strict=True):
        pixels = pictures.decode(number, data)
        images.append(encode_png(pixels, png))
        digests.append(digest_pixels(pixels))
    return _Part(images, digests, files, sizes, sha256)


def _records(distilled: Distilled, start: int, images: Sequence[bytes]) -> Records:
    part, soft = slice(start, start + len(images)), distilled.soft
    ids = [f"{number:06d}" for number in range(start, start + len(images))]
    own: Columns = {f"soft_{soft.space}": soft.values[part]} if soft else {}
    return Records(ids, distilled.labels[part], images, own)


def check_distilled(distilled: Distilled) -> None:
    """Check what every converter must deliver.

    Raises:
        ConvertError: names the files, what was found and what was expected.
    """
    files = " + ".join(map(str, distilled.files)) or distilled.method
    images, names = distilled.images, distilled.classes.names
    if isinstance(images, Pictures):
        _check_channels(files, images.shape[1], distilled.normalization)
    else:
        _check_images(files, images, distilled.normalization)
    _check_labels(files, distilled.labels, images.shape[0], names, some=bool(distilled.asserted.get("some_classes")))
    if distilled.soft is not None:
        _check_soft(files, distilled.soft, (images.shape[0], len(names)))


def _check_channels(files: str, channels: int, normalization: Normalization | None) -> None:
    if normalization is not None and len(normalization.mean) != channels:
        given = f"{len(normalization.mean)}, as the normalization given has"
        raise ConvertError(f"{files}: found {channels} channel(s); expected {given}.")


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
    _check_channels(files, images.shape[1], normalization)


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


def _check_labels(files: str, labels: I64, images: int, names: tuple[str, ...], *, some: bool) -> None:
    if images != len(labels):
        raise ConvertError(
            f"{files}: found {images} images and {len(labels)} labels; expected as many of each. "
            "The two files are of different runs (another IPC?): find the labels file of this run."
        )
    if labels.min() < 0 or labels.max() >= len(names):
        found = f"labels {labels.min()} .. {labels.max()}"
        raise ConvertError(f"{files}: found {found}; expected 0 .. {len(names) - 1}, the {len(names)} classes given.")
    per_class = np.bincount(labels, minlength=len(names))
    if (per_class == 0).any() and not some:
        raise ConvertError(
            f'{files}: found no image of class "{names[int(per_class.argmin())]}"; expected {len(names)} classes. '
            "Give the classes this run was made for, or --some-classes if there are images of some only."
        )


def _describe(conversion: Conversion, digests: Digests, sources: SourceFiles) -> Manifest:
    distilled = conversion.distilled
    count, channels, height, width = conversion.stored.shape
    images = Images.model_validate(
        {
            "count": count,
            "height": height,
            "width": width,
            "channels": channels,
            "encoding": "png" if conversion.png else "jpeg",
            "png": conversion.png,
            "affine": conversion.affine,
            "normalization": distilled.normalization,
            "whitening": distilled.whitening,
            "quantization": conversion.quantization,
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
            files=sources.result(),
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
