"""Label sets, checked as the labels in the records are: statements, files, then every value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ladd_data.card.header import CARD_PATH, DEFAULT, read_card_header
from ladd_data.card.sets import config_of
from ladd_data.errors import DatasetError, Problem
from ladd_data.files import MAX_JSON_BYTES, read_limited
from ladd_data.manifest import MANIFEST_PATH
from ladd_data.manifest_projector import STATEMENT as PROJECTOR
from ladd_data.shards.folder import Folder
from ladd_data.shards.joined import JoinedFolder, open_label_set
from ladd_data.shards.label_sets import LABELS_FOLDER, STATEMENT, check_kinds, is_set_name, list_sets
from ladd_data.shards.projectors import list_projectors, open_projector
from ladd_data.types import Level
from ladd_data.validation.records import Place, RecordCheck
from ladd_data.validation.report import AGAIN, Findings
from ladd_data.validation.statements import check_statements

_OF_IMAGES = {f"LADD-0{number}" for number in (20, 22, 23, 24, 25, 29, 39, 74, 84)}
"""What the check of the records has found already, if it is to be found."""


def check_sets(folder: Folder, level: Level, findings: Findings, *, sound: bool) -> None:
    """Check every label set of a dataset.

    Args:
        folder: the dataset's.
        level: how deep to look.
        findings: gets what is wrong.
        sound: whether the dataset's own shards are; what a set's values are is compared with them.
    """
    findings.add(*check_kinds(folder.path), *_check_listing(folder), *_check_configs(folder))
    projectors = list_projectors(folder.path)
    for name in [name for name in list_sets(folder.path) if name not in projectors]:
        if (folder.path / LABELS_FOLDER / name).is_symlink():
            continue
        try:
            joined = open_label_set(folder, name)
        except DatasetError as error:
            findings.add(*error.problems)
            continue
        findings.add(*(_move(problem, joined) for problem in check_statements(joined.manifest) if _is_of(problem)))
        found = joined.labels.check(verify=True) if level != "metadata" else []
        findings.add(*found)
        if level == "full" and sound and not found:
            try:
                _SetCheck(joined, findings).run(joined.shards, whole=True)
            except DatasetError as error:
                findings.add(*error.problems)
    for name in projectors:
        findings.add(*_check_projector(folder, name, level))


def _check_projector(folder: Folder, name: str, level: Level) -> list[Problem]:
    """Return what is wrong with a projector, whose network is not built for that."""
    if (folder.path / LABELS_FOLDER / name).is_symlink():
        return []  # said already
    try:
        files = open_projector(folder, name)
        return files.check(values=level == "full") if level != "metadata" else []
    except DatasetError as error:
        return list(error.problems)


class _SetCheck(RecordCheck):
    """One pass over every record with the labels of a set; what is wrong is said of the set's files."""

    folder: JoinedFolder

    def _note(self, clause: str, place: Place, found: str, expected: str, column: str = "") -> None:
        if clause in _OF_IMAGES or column.startswith("soft_"):
            return
        files = self.folder.labels
        clause = "LADD-096" if clause == "LADD-026" else clause
        if place.file.startswith(MANIFEST_PATH):
            place = place._replace(file=place.file.replace(MANIFEST_PATH, f"{files.place}/{STATEMENT}"))
        elif place.row is not None:
            first = 0
            for shard in self.folder.shards:
                if shard.path == place.file:
                    break
                first += shard.rows
            file, row = files.shard_of(first + place.row)
            place = Place(file, row, place.id)
        super()._note(clause, place, found, expected, column)


def _is_of(problem: Problem) -> bool:
    """Tell whether a statement that contradicts another is one about labels."""
    return f"{MANIFEST_PATH}, labels" in problem.where


def _move(problem: Problem, joined: JoinedFolder) -> Problem:
    return replace(problem, where=problem.where.replace(MANIFEST_PATH, f"{joined.labels.place}/{STATEMENT}"))


def _check_listing(folder: Folder) -> Iterator[Problem]:
    """Yield what lies in labels/ and is no label set; names that begin with a dot are what a killed run has left."""
    home = folder.path / LABELS_FOLDER
    for item in sorted(home.iterdir()) if home.is_dir() and not home.is_symlink() else ():
        if item.name.startswith(".") or item.is_symlink():
            continue
        where = f"{LABELS_FOLDER}/{item.name}" if item.name.isprintable() else LABELS_FOLDER
        if not is_set_name(item.name) or not item.is_dir():
            found, expected = f"{item.name!r}", "folders of label sets, by their names"
            yield Problem("LADD-090", where, found, expected, "Remove it.")
        elif not (item / STATEMENT).is_file() and not (item / PROJECTOR).is_file():
            found, expected = f"a folder without {STATEMENT}", "a label set"
            yield Problem("LADD-090", where, found, expected, "Remove it, or download the label set again.")


def _check_configs(folder: Folder) -> Iterator[Problem]:
    """Yield what the card says of label sets that they do not say themselves."""
    try:
        header = read_card_header(read_limited(folder.path / CARD_PATH, MAX_JSON_BYTES).decode("utf-8"))
        configs = {config["config_name"]: config["data_files"] for config in header["configs"]}
        infos = header["dataset_info"] if isinstance(header.get("dataset_info"), list) else []
        features = {info["config_name"]: info.get("features") for info in infos}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return  # said of the card itself
    known = list_sets(folder.path)
    for name, files in configs.items():
        if name == DEFAULT:
            continue
        wanted = [{"split": "train", "path": f"{LABELS_FOLDER}/{name}/train-*"}]
        if name not in known:
            found, expected = f'a config "{name}"', f"label sets: {', '.join(known) or 'none'}"
        elif files != wanted:
            found, expected = f'a config "{name}" of data_files {str(files)[:200]}', str(wanted)
        elif name in features and not _are_features(features[name], folder, name):
            found, expected = f'dataset_info.features of "{name}" that are not its columns', "those of its columns"
        else:
            continue
        yield Problem("LADD-097", CARD_PATH, found, expected, AGAIN)


def _are_features(features: object, folder: Folder, name: str) -> bool:
    try:
        return features == config_of(open_label_set(folder, name)).features
    except DatasetError:
        return True  # what is wrong is said of the set
