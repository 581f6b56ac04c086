"""The card: what README.md says of the dataset, which `datasets` believes before the data."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from ladd_data.card.header import CARD_PATH, read_card_header
from ladd_data.errors import Problem
from ladd_data.files import MAX_JSON_BYTES, LimitError, read_limited
from ladd_data.shards.folder import Folder
from ladd_data.validation.report import AGAIN


def check_card(folder: Folder) -> list[Problem]:
    """Compare the card's YAML with the manifest."""
    try:
        header = read_card_header(read_limited(folder.path / CARD_PATH, MAX_JSON_BYTES).decode("utf-8"))
    except LimitError as error:
        return [_bad("LADD-080", str(error), "a card of sensible size")]
    except FileNotFoundError:
        return [_bad("LADD-001", "no such file", "the dataset card")]
    except (OSError, ValueError) as error:
        return [_bad("LADD-050", str(error), "a dataset card")]
    info = header.get("dataset_info")
    if not isinstance(info, dict) or not isinstance(info.get("splits"), list):
        return [_bad("LADD-050", "no whole dataset_info", "features and splits")]
    return [*_check_info(folder, info), *_check_files(folder, header), *_check_identity(folder, header)]


def _check_info(folder: Folder, info: dict[str, Any]) -> Iterator[Problem]:
    if info.get("features") != folder.container.card_features(folder.layout):
        found = "dataset_info.features that are not the manifest's"
        yield _bad("LADD-051", found, "the same columns and class names")
    splits = [split for split in info["splits"] if isinstance(split, dict)]
    stated = [(split.get("name"), split.get("num_examples")) for split in splits]
    wanted = [("train", folder.manifest.images.count)]
    if stated != wanted:
        yield _bad("LADD-051", f"splits of (name, num_examples) {str(stated)[:200]}", str(wanted))


def _check_files(folder: Folder, header: dict[str, Any]) -> Iterator[Problem]:
    """Check that `configs`, where it is there, leads `datasets` to every shard."""
    if "configs" not in header:
        return
    try:
        files = [item for config in header["configs"] for item in config["data_files"]]
        patterns = [str(item["path"]) for item in files if item["split"] == "train"]
    except (TypeError, KeyError):
        patterns = []
    lost = [s.path for s in folder.shards if not any(fnmatchcase(s.path, pattern) for pattern in patterns)]
    if lost:
        found = f"configs whose data_files for train ({', '.join(patterns)[:200] or 'none'}) leave out {lost[0]}"
        yield _bad("LADD-051", found, 'path "data/train-*"')


def _check_identity(folder: Folder, header: dict[str, Any]) -> Iterator[Problem]:
    """Check that `ladd`, where it is there, is of this dataset and not of an earlier version."""
    wanted = {"spec_version": folder.manifest.spec_version, "digest": folder.manifest.digest}
    if "ladd" in header and header["ladd"] != wanted:
        yield _bad("LADD-051", f"ladd: {str(header['ladd'])[:200]}", str(wanted))


def _bad(clause: str, found: str, expected: str) -> Problem:
    return Problem(clause, CARD_PATH, found, expected, AGAIN)
