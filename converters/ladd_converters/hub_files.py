"""Opening a dataset of Hugging Face's `datasets`, on the Hub or in a folder; nothing in it is ever run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from ladd_converters.class_folders import scan, some
from ladd_converters.torch_files import refuse_text
from ladd_data import ConvertError, UsageError

PARQUETS = 64
"""How many files a look takes in."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def parquets(path: Path) -> list[Path]:
    """Return the parquet files at a path or in its data folder, the first of many, sorted."""
    if path.is_file() and path.suffix == ".parquet":
        return [path]
    folders = (path, path / "data")
    names = (folder / entry.name for folder in folders for entry in islice(scan(folder), 1000))
    return sorted(name for name in names if name.suffix == ".parquet")[:PARQUETS]


def huggingface_schema(file: Path) -> str:
    """Return what `datasets` wrote into a parquet file's schema; nothing where it did not, or it is no parquet."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    with suppress(ArrowException, OSError):
        return ((read_schema(file).metadata or {}).get(b"huggingface") or b"").decode(errors="replace")
    return ""


def load_splits(path: Path) -> dict[str, Any]:
    """Return the splits of a dataset by name, memory-mapped.

    Raises:
        UsageError: there is none of this name.
        ConvertError: it cannot be read.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if (path / "meta" / "ladd.json").exists():
        raise UsageError(f"{path}: is a dataset of this format already: there is nothing to convert.")
    _check_parquets(path)
    loader = _loader(path)
    try:
        with _quiet():
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
        _check_configurations(path, error)
        raise ConvertError(f"{path.as_posix()}: cannot be read as a dataset: {_first_line(error)}") from error
    if isinstance(loaded, datasets.Dataset):
        return {str(loaded.split or "train"): loaded}
    return {str(name): split for name, split in loaded.items()}


def _check_parquets(path: Path) -> None:
    """Refuse empty files, Git-LFS pointers and web pages that are called parquet.

    Raises:
        ConvertError: one is.
    """
    for file in parquets(path):
        refuse_text(file, "a parquet file")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own remarks on files from the terminal: the error says it once."""
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_configurations(path: Path, error: Exception) -> None:
    """Give the way out where a dataset has several configurations, which no option names.

    Raises:
        UsageError: it has.
    """
    several = re.search(r"Config name is missing.*?available configs: \[([^\]]*)\]", str(error), re.DOTALL)
    if several is None:
        return
    names = re.findall(r"'([^']+)'", several[1])
    saved = f"datasets.load_dataset({path.as_posix()!r}, {names[0] if names else 'NAME'!r}).save_to_disk('DIR')"
    raise UsageError(
        f"{path.as_posix()}: has several configurations ({some(names)}). Save the one wanted, and convert DIR: "
        f'python -c "import datasets; {saved}"'
    ) from error


def outline(path: Path) -> tuple[list[str], Any]:
    """Return the splits and the features of a local dataset, without reading its rows."""
    import datasets
    from pyarrow.parquet import read_schema

    files = parquets(path)
    if not files:
        saved = load_splits(path)
        return list(saved), next(iter(saved.values())).features
    features = datasets.Features.from_arrow_schema(read_schema(files[0]))
    if path.is_file():
        return ["train"], features
    try:
        return [str(name) for name in datasets.load_dataset_builder(str(path)).config.data_files or ()], features
    except Exception as error:  # of many kinds
        _check_configurations(path, error)
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
