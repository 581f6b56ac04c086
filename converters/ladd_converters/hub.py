"""A dataset of Hugging Face's `datasets`, on the Hub or in a folder: an image column and a label column.

    user/name                                            on the Hub, by its name
    dataset_info.json + state.json, dataset_dict.json    Dataset.save_to_disk
    *.parquet, data/*.parquet                            push_to_hub, to_parquet
    anything else that load_dataset reads from a folder; code in it is never run

Image: struct of bytes and path; the bytes are those of a picture file, and JPEG stays as it is. Labels: ClassLabel
(numbers, the names are in the features), whole numbers, or words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import JsonValue

from ladd_converters.class_folders import scan, some
from ladd_converters.class_labels import label_numbers, label_words, refuse_answers
from ladd_converters.imagefolder import WHY, ImageFolderConverter
from ladd_data import (
    Answers,
    Ask,
    Classes,
    ConvertError,
    Description,
    Distilled,
    Preset,
    UsageError,
    open_pictures,
)

_IMAGE = re.compile(r'"_type": ?"Image"')
_COMMIT = re.compile(r"@([0-9a-f]{40})/")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
PARQUETS = 64
"""How many files a look takes in."""

I64 = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class HubConverter:
    """Reads one split of a dataset with an image and a label column."""

    name: ClassVar[str] = "hub"
    summary: ClassVar[str] = "a `datasets` dataset with an image and a label column: user/name, or a local folder"
    datasets: ClassVar[Mapping[str, Preset]] = ImageFolderConverter.datasets

    def detect(self, path: Path) -> str | None:
        """Return why a local folder looks like such a dataset, or None; the Hub is not asked."""
        if (path / "meta" / "ladd.json").exists():
            return None
        for where in ("dataset_info.json", "*/dataset_info.json"):
            if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
                infos = islice(sorted(path.glob(where)), PARQUETS)
                if any(_IMAGE.search(info.read_text(errors="replace")) for info in infos if info.is_file()):
                    return "saved by Dataset.save_to_disk, with a column of images"
        if any(_IMAGE.search(_huggingface_schema(file)) for file in _parquets(path)):
            return "parquet files of `datasets`, with a column of images"
        return None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        reason = self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no saved dataset with a column of images.")
        asks = []
        splits, features = _outline(path)
        if len(splits) > 1:
            asks.append(Ask("--split", f"it has the splits {some(splits)}", splits[0]))
        for option, columns in _columns(features).items():
            if len(columns) != 1:
                asks.append(Ask(option, f"it might be {some(columns) or 'none of its columns'}", (columns or ["?"])[0]))
        asks.append(Ask("--normalization", WHY, "imagenet"))
        return Description(reason, (path,), tuple(asks))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a split; see `ladd_data.Converter.read`."""
        refuse_answers(answers, self.name, "split", "image_column", "label_column", "mosaic_factor")
        if answers.normalization is None:
            raise UsageError(
                f"{path}: {WHY}. Give --normalization imagenet, or --dataset ({', '.join(self.datasets)})."
            )
        split, table = _choose_split(path, _load(path), answers.split)
        columns = _columns(table.features)
        image = _choose_column(path, table, "--image-column", answers.image_column, columns)
        label = _choose_column(path, table, "--label-column", answers.label_column, columns)
        labels, classes, read, notes = _read_labels(path, table, label, answers)
        files = (path,) if path.exists() else tuple(Path(file["filename"]) for file in table.cache_files)
        pictures = _Rows(path, split, table.select_columns([image]), files)
        others = [name for name in table.column_names if name not in (image, label)]
        for option, value in (("split", split), ("image_column", image), ("label_column", label)):
            if getattr(answers, option) is None:
                read[option] = value
        commit = _COMMIT.search(" ".join(table.info.download_checksums or ()))
        return Distilled(
            method="hub",
            repository=None if path.exists() else f"https://huggingface.co/datasets/{path.as_posix()}",
            images=pictures,
            labels=labels,
            classes=classes,
            normalization=answers.normalization,
            whitening="none",
            files=files,
            read={**read, **({"commit": commit[1]} if commit else {})},
            asserted=answers.said(),
            mosaic_factor=answers.mosaic_factor or 1,
            notes=(*notes, *([f"Left out: the columns {some(others)}."] if others else []), *pictures.notes),
        )


class _Rows:
    """The pictures of an image column; nothing but the table's memory map is held."""

    def __init__(self, path: Path, split: str, table: Any, files: tuple[Path, ...]) -> None:
        """Look at each picture; `table` has the image column only."""
        self._table, self._path, self._split, self._files = table.with_format("arrow"), path, split, files
        names = [self._name(number) for number in range(len(table))]
        if not names:
            raise ConvertError(f"{path}: found no rows in the split {split}; expected pictures.")
        self._pictures = open_pictures(names, self._give)
        self.notes = self._pictures.notes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        return self._pictures.shape

    @property
    def encoding(self) -> Literal["jpeg", "png"]:
        """What they are stored as."""
        return self._pictures.encoding

    def file(self, number: int) -> str:
        """Return the file or folder that holds all rows."""
        return str(self._files[0])

    def read(self, number: int) -> bytes:
        """Return the picture file of a row."""
        return self._pictures.read(number)

    def decode(self, number: int, data: bytes) -> Any:
        """Return the pixels of a row."""
        return self._pictures.decode(number, data)

    def _name(self, number: int) -> str:
        return f"{self._path}, split {self._split}, row {number}"

    def _give(self, number: int) -> bytes:
        value = self._table[number].column(0)[0].as_py()
        if value is not None and value["bytes"] is not None:
            data: bytes = value["bytes"]
            return data
        if value is None or value["path"] is None:
            raise ConvertError(f"{self._name(number)}: found no picture; expected one in every row. Leave the row out.")
        file = Path(value["path"])
        if not _is_inside(file, self._path):
            raise ConvertError(
                f"{self._name(number)}: found no picture but the path {file}, which is not of this dataset. Save it "
                "with the pictures in it: read each, and save_to_disk."
            )
        try:
            return file.read_bytes()
        except OSError as error:
            raise ConvertError(f"{self._name(number)}: {file}: {error.strerror or error}.") from error


def _is_inside(file: Path, folder: Path) -> bool:
    """Whether a file that a row names is of the dataset, or of what `datasets` downloaded."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    homes = [Path(HF_DATASETS_CACHE), Path(HF_HUB_CACHE), *([folder] if folder.exists() else [])]
    return any(home.resolve() in file.resolve().parents for home in homes)


def _parquets(path: Path) -> list[Path]:
    if path.is_file() and path.suffix == ".parquet":
        return [path]
    folders = (path, path / "data")
    names = (folder / entry.name for folder in folders for entry in islice(scan(folder), 1000))
    return sorted(name for name in names if name.suffix == ".parquet")[:PARQUETS]


def _huggingface_schema(file: Path) -> str:
    """Return what `datasets` wrote into a parquet file's schema; nothing where it did not, or it is no parquet."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    with suppress(ArrowException, OSError):
        return ((read_schema(file).metadata or {}).get(b"huggingface") or b"").decode(errors="replace")
    return ""


def _load(path: Path) -> dict[str, Any]:
    """Return the splits of a dataset by name, memory-mapped.

    Raises:
        UsageError: there is none of this name.
        ConvertError: it cannot be read.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if (path / "meta" / "ladd.json").exists():
        raise UsageError(f"{path}: is a dataset of this format already: there is nothing to convert.")
    loader = _loader(path)
    try:
        loaded = loader()
    except (OfflineModeIsEnabled, ConnectionError) as error:
        raise UsageError(
            f"{path.as_posix()}: is no folder here, and the Hub cannot be reached ({_first_line(error)}). Go online, "
            "or give the folder of a dataset that was saved."
        ) from error
    except (datasets.exceptions.DatasetNotFoundError, HfHubHTTPError) as error:
        raise UsageError(
            f"{path.as_posix()}: no folder here, nor a dataset on the Hub: {_first_line(error)}"
        ) from error
    except Exception as error:  # whatever a reader of a dozen formats says of files that it cannot read
        raise ConvertError(f"{path.as_posix()}: cannot be read as a dataset: {_first_line(error)}") from error
    if isinstance(loaded, datasets.Dataset):
        return {str(loaded.split or "train"): loaded}
    return {str(name): split for name, split in loaded.items()}


def _outline(path: Path) -> tuple[list[str], Any]:
    """Return the splits and the features of a local dataset, without reading its rows."""
    import datasets
    from pyarrow.parquet import read_schema

    files = _parquets(path)
    if not files:
        saved = _load(path)
        return list(saved), next(iter(saved.values())).features
    features = datasets.Features.from_arrow_schema(read_schema(files[0]))
    if path.is_file():
        return ["train"], features
    try:
        return [str(name) for name in datasets.load_dataset_builder(str(path)).config.data_files or ()], features
    except Exception as error:  # of many kinds
        raise ConvertError(f"{path}: cannot be read as a dataset: {_first_line(error)}") from error


def _loader(path: Path) -> Callable[[], Any]:
    import datasets

    if not path.exists():
        if _HUB_NAME.fullmatch(path.as_posix()) is None:
            raise UsageError(f"{path}: no such folder, and no name that the Hub could have.")
        return lambda: datasets.load_dataset(path.as_posix())
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return lambda: datasets.load_from_disk(str(path))
    if path.is_file():
        kind = {".parquet": "parquet", ".arrow": "arrow"}.get(path.suffix)
        if kind is None:
            raise UsageError(f"{path}: expected a dataset's folder, its name on the Hub, or a .parquet or .arrow file.")
        return lambda: datasets.load_dataset(kind, data_files=str(path))
    return lambda: datasets.load_dataset(str(path))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _choose_split(path: Path, splits: dict[str, Any], wanted: str | None) -> tuple[str, Any]:
    if wanted is None and len(splits) > 1:
        raise UsageError(f"{path}: has the splits {some(list(splits))}. Choose one: --split {next(iter(splits))}.")
    name = wanted or next(iter(splits))
    if name not in splits:
        raise UsageError(f"--split {name}: {path} has the splits {some(list(splits))}.")
    return name, splits[name]


def _columns(features: Any) -> dict[str, list[str]]:
    """Return the columns that might be meant, by option."""
    import datasets

    kinds = features.items()
    images = [name for name, kind in kinds if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in kinds if isinstance(kind, datasets.ClassLabel)]
    return {"--image-column": images, "--label-column": labels or [name for name, kind in kinds if _may_label(kind)]}


def _may_label(kind: Any) -> bool:
    return re.fullmatch(r"u?int(8|16|32|64)|(large_)?string", getattr(kind, "dtype", "")) is not None


def _choose_column(path: Path, table: Any, option: str, wanted: str | None, columns: dict[str, list[str]]) -> str:
    import datasets

    known = columns[option]
    if wanted is None:
        if len(known) != 1:
            example = f" Choose one: {option} {known[0]}." if known else f" It has {some(table.column_names)}."
            raise UsageError(f"{path}: found {len(known)} columns for {option} ({some(known)}); expected one.{example}")
        return known[0]
    if wanted not in table.column_names:
        raise UsageError(f"{option} {wanted}: {path} has the columns {some(table.column_names)}.")
    kind = table.features[wanted]
    fits = isinstance(kind, datasets.Image) if option == "--image-column" else _is_label(kind)
    if not fits:
        raise UsageError(f"{option} {wanted}: is {kind}; expected {'images' if 'image' in option else 'classes'}.")
    return wanted


def _is_label(kind: Any) -> bool:
    import datasets

    return isinstance(kind, datasets.ClassLabel) or _may_label(kind)


def _read_labels(
    path: Path, table: Any, column: str, answers: Answers
) -> tuple[I64, Classes, dict[str, JsonValue], list[str]]:
    """Return labels and classes, facts found, and what to know.

    Raises:
        UsageError: numbers without names, and no classes were given.
        ConvertError: a row has no label, or the labels do not fit the classes.
    """
    values = table.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    names = getattr(table.features[column], "names", None)
    empty = [row for row, value in enumerate(values) if value is None or (names is not None and value < 0)]
    if empty:
        raise ConvertError(
            f"{path}: found no label in {len(empty)} of {len(values)} rows (first: row {empty[0]}); expected one in "
            f"every row of {column}. Test splits are often unlabelled: choose another, or leave these rows out."
        )
    if names is None and not isinstance(values[0], str):
        return _read_numbers(path, column, values, answers.classes)
    words = names if names is not None else sorted(set(values))
    classes = answers.classes or Classes(names=tuple(words))
    met, notes = label_words(words, classes), []
    if met is None:
        some_meet = not set(words).isdisjoint((*classes.names, *(classes.ids or ())))
        if len(words) != len(classes.names) or names is None or some_meet:
            raise ConvertError(
                f"{path}: found the classes {some(words)} in {column}, {len(words)} in all; {len(classes.names)} "
                f"others were given ({some(classes.names)}). Leave --classes out to take those of the dataset."
            )
        met = {word: label for label, word in enumerate(words)}, "by place"
        notes = [f"The classes given replace the dataset's own names, one by one: {words[0]} is {classes.names[0]}."]
    labels, how = met
    facts: dict[str, JsonValue] = {"label_names": how} if answers.classes else {"classes": list(words)}
    of_value = {number: labels[word] for number, word in enumerate(words)} if names is not None else labels
    return np.fromiter((of_value[value] for value in values), np.int64), classes, facts, notes


def _read_numbers(
    path: Path, column: str, values: list[int], classes: Classes | None
) -> tuple[I64, Classes, dict[str, JsonValue], list[str]]:
    if classes is None:
        raise UsageError(
            f"{path}: {column} holds numbers without names. Give the names in label order: --classes cifar10, "
            "--classes a,b,c or --classes @FILE."
        )
    met = label_numbers(path, {number: str(number) for number in sorted(set(values))}, classes, "class numbers")
    labels = np.fromiter((met.labels[value] for value in values), np.int64)
    return labels, classes, {"label_numbers": met.numbers_are}, [met.note] if met.note else []
