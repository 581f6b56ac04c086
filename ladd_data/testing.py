"""Conformance checks: all that an implementation of one of our contracts must do, as functions for tests.

A converter's test is one call: `check_converter(MyConverter(), path, answers, tmp_path)`; so is a loader's:
`check_loader(lambda **options: MyLoader(dataset, **options), dataset)`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ladd_data.convert import prepare
from ladd_data.convert_run import convert_run
from ladd_data.converter import Answers, Converter, Distilled, list_converters
from ladd_data.dataset import Dataset, load
from ladd_data.errors import LaddError
from ladd_data.files import canonical_json
from ladd_data.loaders.conformance import check_loader as check_loader
from ladd_data.manifest import Images, Manifest
from ladd_data.pictures import Pictures
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.types import F32, U8
from ladd_data.validation import validate

TOLERANCE = 1e-6
"""Relative difference allowed between a recorded error and the one computed here."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")


def check_converter(converter: Converter, path: Path, answers: Answers, tmp_path: Path) -> Manifest:
    """Convert a run that the converter should accept, and check all that a converter must deliver.

    Args:
        converter: under test.
        path: a run, or a file of one.
        answers: what a person would say of it; complete.
        tmp_path: an empty folder; the dataset is written to `tmp_path / "dataset"`.

    Returns:
        The manifest written, for checks of your own.

    Raises:
        AssertionError: the first breach of the contract, with what was found and expected.
        LaddError: the converter refused the run.
    """
    _check_name(converter)
    _check_datasets(converter)
    _check_detect(converter, path, tmp_path)
    _check_describe(converter, path)
    distilled = converter.read(path, answers)
    _check_arrays(distilled)
    _check_facts(distilled, answers)
    _check_same(distilled, converter.read(path, answers))
    target = tmp_path / "dataset"
    manifest = convert_run(prepare(distilled, "conformance"), target)
    report = validate(target, "full")
    _require(report.valid, "the written dataset is not valid:\n  " + "\n  ".join(map(str, report.problems)))
    _check_written(distilled, target)
    return manifest


def _check_name(converter: Converter) -> None:
    cls = type(converter)
    _require(
        isinstance(converter, Converter), f"{cls.__name__} lacks name, summary, datasets, detect, describe or read"
    )
    name = converter.name
    _require(_SLUG.fullmatch(name) is not None, f"name {name!r} is not a slug: lower-case letters, digits, - and _")
    point = list_converters().get(name)
    _require(point is None or point.load() is cls, f'name "{name}" belongs to {point and point.value}; choose another')
    _require(converter.summary.strip() != "", "summary is empty")
    _require("\n" not in converter.summary, "summary has more than one line")


def _check_datasets(converter: Converter) -> None:
    for name, preset in converter.datasets.items():
        for key, known in ((preset.classes, CLASS_LISTS), (preset.normalization, NORMALIZATIONS)):
            _require(key in known, f'datasets["{name}"] names "{key}", which is no preset')


def _check_describe(converter: Converter, path: Path) -> None:
    """Check the description, and that what it asks for is needed: reading without any answer is refused."""
    if converter.detect(path) is None:
        return  # a path that only a person recognises
    what = converter.describe(path)
    _require(what.reason.strip() != "", "describe gave no reason")
    _require(bool(what.files), "describe names no files; expected those that would be read")
    for file in what.files:
        _require(file.exists(), f"describe names {file}, which is not there")
    options = [ask.option for ask in what.asks]
    _require(len(set(options)) == len(options), f"describe asks twice: {options}")
    for ask in what.asks:
        _require(ask.option.startswith("--"), f'describe asks "{ask.option}"; expected an option such as --classes')
        _require(bool(ask.why and ask.example), f"{ask.option}: describe says no reason, or no example")
    if not options:
        return
    try:
        converter.read(path, Answers())
    except LaddError as error:
        _require("--" in str(error), f"read without answers names no option: {error}")
        return
    raise AssertionError(f"describe asks for {options}, but read guessed them")


def _check_detect(converter: Converter, path: Path, tmp_path: Path) -> None:
    reason = converter.detect(path)
    _require(reason is None or (isinstance(reason, str) and bool(reason)), f"detect({path}) returned {reason!r}")
    unrelated = tmp_path / "unrelated"
    unrelated.mkdir(parents=True, exist_ok=True)
    (unrelated / "notes.txt").write_text("Nothing was distilled here.")
    for other in (unrelated, unrelated / "notes.txt", unrelated / "missing"):
        try:
            reason = converter.detect(other)
        except Exception as error:
            raise AssertionError(f"detect raised {error!r} on {other}, which is not its own; expected None") from error
        _require(reason is None, f"detect took {other} for its own: {reason!r}; expected None")


def _check_arrays(distilled: Distilled) -> None:
    images, labels = distilled.images, distilled.labels
    if isinstance(images, Pictures):
        _require(distilled.whitening == "none", "picture files cannot be whitened pixels")
    else:
        found = f"{images.dtype} {list(images.shape)}"
        _require(images.dtype == np.float32 and images.ndim == 4, f"images are {found}; expected float32 [n, c, h, w]")
        _require(bool(np.isfinite(images).all()), "images hold NaN or infinity")
    found = f"{labels.dtype} {list(labels.shape)}"
    fits = labels.dtype == np.int64 and labels.shape == images.shape[:1]
    _require(fits, f"labels are {found}; expected int64 [{images.shape[0]}]")
    classes = len(distilled.classes.names)
    inside = bool(((labels >= 0) & (labels < classes)).all())
    _require(inside, f"labels {labels.min()} .. {labels.max()} are not all in 0 .. {classes - 1}")
    whitened = distilled.whitening == "zca"
    _require(not whitened or distilled.normalization is None, "whitened images have no normalization; expected None")


def _check_same(first: Distilled, second: Distilled) -> None:
    _require(_are_same(first.images, second.images), "reading twice gave other images")
    _require(np.array_equal(first.labels, second.labels), "reading twice gave other labels")
    for what in ("method", "repository", "classes", "normalization", "whitening", "files", "read", "asserted"):
        one, other = getattr(first, what), getattr(second, what)
        _require(one == other, f"reading twice gave other {what}: {one!r}, then {other!r}")


def _are_same(first: F32 | Pictures, second: F32 | Pictures) -> bool:
    if isinstance(first, Pictures) and isinstance(second, Pictures):
        numbers = range(first.shape[0])
        same = (first.shape, first.encoding) == (second.shape, second.encoding)
        return same and all(first.file(number) == second.file(number) for number in numbers)
    if isinstance(first, Pictures) or isinstance(second, Pictures):
        return False
    return np.array_equal(first, second)


def _check_facts(distilled: Distilled, answers: Answers) -> None:
    _require(bool(distilled.files), "files is empty; expected every file that was read")
    for file in distilled.files:
        _require(file.exists(), f"files lists {file}, which is not there")
    if isinstance(distilled.images, Pictures):
        _check_sources(distilled.images, distilled.files)
    read, asserted = distilled.read, distilled.asserted
    both = sorted(read.keys() & asserted.keys())
    _require(not both, f"{both} are in both read and asserted; a fact has one source")
    for key, said in answers.said().items():
        _require(key not in read, f'"{key}" was answered, so it belongs in asserted, not in read')
        _require(key in asserted, f'"{key}" was answered and is missing in asserted')
        _require(asserted[key] == said, f'asserted["{key}"] is {asserted[key]!r}; the person said {said!r}')
    if answers.classes is not None:
        _require(distilled.classes == answers.classes, f"classes are {distilled.classes}, not those answered")
    if answers.normalization is not None:
        found = distilled.normalization
        _require(found == answers.normalization, f"normalization is {found}, not the one answered")
    for what, facts in (("read", read), ("asserted", asserted)):
        try:
            canonical_json(facts)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{what} does not fit into JSON: {error}") from error


def _check_sources(pictures: Pictures, files: tuple[Path, ...]) -> None:
    for number in range(pictures.shape[0]):
        file = Path(pictures.file(number))
        listed = file in files or any(folder in file.parents for folder in files)
        _require(listed, f"image {number} comes from {file}, which is not in files, nor in a folder of them")


def _check_written(distilled: Distilled, target: Path) -> None:
    dataset = load(target)
    stored, images = dataset.arrays, dataset.manifest.images
    _require(np.array_equal(stored.labels, distilled.labels), "written labels, or their order, are not the source's")
    ids = [f"{number:06d}" for number in range(len(distilled.labels))]
    _require(stored.ids == ids, f"written ids begin {stored.ids[:3]}; expected positions in the source, {ids[:3]}")
    if isinstance(distilled.images, Pictures):
        _check_pictures(distilled.images, dataset)
        return
    error = np.abs(_to_model_input(images, stored.images).astype(np.float64) - distilled.images)
    if distilled.normalization is not None:
        error *= np.asarray(distilled.normalization.std, np.float64)[:, None, None]
    recorded, worst = images.quantization.error, float(error.max())
    limit = recorded.max_abs * (1 + TOLERANCE)
    _require(worst <= limit, f"a pixel is off by {worst:.9g}; the manifest says at most {recorded.max_abs:.9g}")
    rmse = math.sqrt(float(np.mean(np.square(error))))
    close = math.isclose(rmse, recorded.rmse, rel_tol=TOLERANCE, abs_tol=1e-12)
    _require(close, f"the RMSE is {rmse:.9g}; the manifest says {recorded.rmse:.9g}")


def _check_pictures(pictures: Pictures, dataset: Dataset) -> None:
    """Compare what was written with the files: JPEG files byte for byte, others by their pixels."""
    images = dataset.manifest.images
    _require(images.encoding == pictures.encoding, f"written as {images.encoding}; expected {pictures.encoding}")
    for _, first, records, pixels in dataset.decoded():
        for row in range(len(records)):
            data, name = pictures.read(first + row), pictures.file(first + row)
            if pictures.encoding == "jpeg":
                _require(records.images[row] == data, f"{name} was not kept byte for byte")
            same = np.array_equal(pictures.decode(first + row, data), pixels[row])
            _require(same, f"{name} decodes to other pixels than were written")


def _to_model_input(images: Images, pixels: U8) -> F32:
    """Apply the manifest's affine map as the spec states it, on its own: scale * pixel + offset in float32."""
    out = np.empty(pixels.shape, np.float32)
    for channel, (scale, offset) in enumerate(zip(images.affine.scale, images.affine.offset, strict=True)):
        out[:, channel] = np.float32(scale) * pixels[:, channel].astype(np.float32) + np.float32(offset)
    return out


def _require(held: bool, message: str) -> None:
    if not held:
        raise AssertionError(message)
