"""The card, which `datasets` believes before the data, and Croissant metadata: both compared with the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from ladd_data.card.croissant import CROISSANT_PATH, listed_checksums
from ladd_data.card.header import CARD_PATH, DEFAULT, find_info, read_card_header
from ladd_data.card.picture import PICTURE_PATH
from ladd_data.errors import Problem
from ladd_data.files import MAX_JSON_BYTES, LimitError, parse_json_strictly, read_limited, sha256_file
from ladd_data.manifest import MANIFEST_PATH
from ladd_data.shards.folder import Folder
from ladd_data.validation.report import AGAIN

_OURS = ("data/", "meta/", PICTURE_PATH)


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
    info = find_info(header)
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
        ours = [config for config in header["configs"] if config.get("config_name", DEFAULT) == DEFAULT]
        files = [item for config in ours for item in config["data_files"]]
        patterns = [str(item["path"]) for item in files if item["split"] == "train"]
    except (TypeError, KeyError, AttributeError):
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


def check_croissant(folder: Folder) -> list[Problem]:
    """Compare the checksums in croissant.json, where it is there, with shard list, manifest and picture."""
    path = folder.path / CROISSANT_PATH
    if not path.exists():
        return []
    try:
        stated = listed_checksums(parse_json_strictly(read_limited(path)))
    except LimitError as error:
        return [_bad("LADD-080", str(error), "a document of sensible size", CROISSANT_PATH)]
    except (OSError, ValueError) as error:
        return [_bad("LADD-052", str(error), "Croissant metadata", CROISSANT_PATH)]
    wanted = {shard.path: shard.sha256 for shard in folder.shards}
    wanted[MANIFEST_PATH] = hashlib.sha256(folder.content).hexdigest()
    if (folder.path / PICTURE_PATH).is_file():
        wanted[PICTURE_PATH] = sha256_file(folder.path / PICTURE_PATH)
    ours = {name: digest for name, digest in stated.items() if name.startswith(_OURS)}
    if ours == wanted:
        return []
    name = min(name for name in ours.keys() | wanted.keys() if ours.get(name) != wanted.get(name))
    found = f"sha256 {ours.get(name, 'of no such file')[:80]} of {name[:200]!r}"
    expected = wanted.get(name, "only files of this dataset")
    return [_bad("LADD-052", found, expected, CROISSANT_PATH)]


def _bad(clause: str, found: str, expected: str, where: str = CARD_PATH) -> Problem:
    return Problem(clause, where, found, expected, AGAIN)
