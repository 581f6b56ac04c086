"""The manifest as JSON: bytes to a checked manifest and back, and the rule of versions."""

from __future__ import annotations

import re
import warnings
from typing import Any, TypeVar

from pydantic import ValidationError

from ladd_data.errors import DatasetError, Problem
from ladd_data.files import LimitError, canonical_json, parse_json_strictly
from ladd_data.manifest import MANIFEST_PATH, MAX_DENSE_VALUES, MAX_PIXELS, SPEC_VERSION, LabelSet, Manifest
from ladd_data.manifest_projector import ProjectorSet

_Document = TypeVar("_Document", Manifest, LabelSet, ProjectorSet)

KNOWN_REQUIREMENTS: frozenset[str] = frozenset()
"""Entries of `requires` that this reader fulfils; an unknown one is a refusal."""

MAX_BREACHES = 1000
"""More breaches of the schema than this are counted, not listed."""


def dump_manifest(manifest: Manifest) -> bytes:
    """Serialise a manifest to the bytes of meta/ladd.json; `parse_manifest` is the way back."""
    return canonical_json(manifest.model_dump(mode="json"))


def parse_manifest(data: bytes, where: str = MANIFEST_PATH) -> Manifest:
    """Turn the bytes of meta/ladd.json into a checked manifest.

    Raises:
        DatasetError: every breach found, each with its path in the document (LADD-010 to LADD-013).
    """
    manifest = _parse(Manifest, data, where)
    _check_limits(manifest, where)
    return manifest


def dump_label_set(statement: LabelSet) -> bytes:
    """Serialise what a label set says of itself to the bytes of its labels.json."""
    return canonical_json(statement.model_dump(mode="json"))


def parse_label_set(data: bytes, where: str) -> LabelSet:
    """Turn the bytes of a labels.json into what a label set says of itself.

    Raises:
        DatasetError: every breach found (LADD-010 to LADD-012), each with its path in the document.
    """
    return _parse(LabelSet, data, where)


def dump_projector_set(statement: ProjectorSet) -> bytes:
    """Serialise what a projector says of itself to the bytes of its projector.json."""
    return canonical_json(statement.model_dump(mode="json"))


def parse_projector_set(data: bytes, where: str) -> ProjectorSet:
    """Turn the bytes of a projector.json into what a projector says of itself.

    Raises:
        DatasetError: every breach found (LADD-010 to LADD-013), each with its path in the document.
    """
    return _parse(ProjectorSet, data, where)


def join_label_set(manifest: Manifest, statement: LabelSet, where: str) -> Manifest:
    """Return the manifest that the dataset would have with these labels in its records.

    Raises:
        DatasetError: the labels' fields contradict each other or the dataset's (LADD-013, LADD-081).
    """
    fields = {name: getattr(manifest, name) for name in Manifest.model_fields}
    changed = {"labels": statement.labels, "recipe": statement.recipe, "digest": statement.digest}
    try:
        joined = Manifest(**fields | changed)
    except ValidationError as error:
        raise DatasetError(_problems(error, where)) from error
    _check_limits(joined, where)
    return joined


def _parse(kind: type[_Document], data: bytes, where: str) -> _Document:
    try:
        document = parse_json_strictly(data)
    except LimitError as error:
        raise _refusal("LADD-080", where, str(error), "a document of sensible size", _RESTORE) from error
    except ValueError as error:
        raise _refusal("LADD-010", where, str(error), "a JSON object", _RESTORE) from error
    if _check_version(document, where):
        _drop_unknown_keys(kind, document)
    try:
        return kind.model_validate_json(canonical_json(document))
    except ValidationError as error:
        raise DatasetError(_problems(error, where)) from error


def _check_limits(manifest: Manifest, where: str) -> None:
    """Refuse records that no reader should have to hold in memory (LADD-081)."""
    images, labels = manifest.images, manifest.labels
    if images.height * images.width > MAX_PIXELS:
        found = f"images of {images.width}x{images.height} pixels"
        raise _refusal("LADD-081", f"{where}, images", found, f"at most {MAX_PIXELS} pixels", _RESTORE)
    if labels is not None and labels.count * len(manifest.classes.names) > MAX_DENSE_VALUES:
        found = f"{labels.count} views of {len(manifest.classes.names)} classes per record"
        raise _refusal("LADD-081", f"{where}, labels", found, f"at most {MAX_DENSE_VALUES} in all", _RESTORE)


_RESTORE = "Restore the file from its publisher, or write the dataset again."


def _refusal(clause: str, where: str, found: str, expected: str, fix: str) -> DatasetError:
    return DatasetError([Problem(clause, where, found, expected, fix)])


def _check_version(document: Any, where: str) -> bool:
    """Apply the version rule; True where the document is of a newer minor version than this reader."""
    version = document.get("spec_version") if isinstance(document, dict) else None
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}(\.[0-9]+)*", version):
        raise _refusal("LADD-011", where, f"spec_version {version!r}", 'a version such as "1.0"', _RESTORE)
    major, minor = (int(part) for part in version.split(".")[:2])
    known_major, known_minor = (int(part) for part in SPEC_VERSION.split("."))
    if major != known_major:
        upgrade = f"Read it with ladd-data {major}.x (pip install 'ladd-data=={major}.*')."
        raise _refusal("LADD-011", where, f"spec version {version}", f"{known_major}.x", upgrade)
    requires = document.get("requires")
    named = [name for name in requires if isinstance(name, str)] if isinstance(requires, list) else []
    unknown = [name for name in named if name not in KNOWN_REQUIREMENTS]
    if unknown:
        upgrade = "Upgrade ladd-data (pip install -U ladd-data)."
        raise _refusal("LADD-012", where, f"requires {', '.join(unknown)}", "only features known here", upgrade)
    if minor > known_minor:
        warnings.warn(
            f"{where} is of spec {version}; unknown keys are ignored by this {SPEC_VERSION} reader.",
            stacklevel=4,
        )
    return minor > known_minor


def _drop_unknown_keys(kind: type[Manifest] | type[LabelSet] | type[ProjectorSet], document: Any) -> None:
    """Take out the keys that only a newer reader knows."""
    try:
        kind.model_validate_json(canonical_json(document))
    except ValidationError as error:
        for item in error.errors() if error.error_count() <= MAX_BREACHES else ():
            if item["type"] == "extra_forbidden":
                *parents, key = item["loc"]
                part = document
                for step in parents:
                    part = part[step]
                del part[key]


def _problems(error: ValidationError, where: str) -> list[Problem]:
    if error.error_count() > MAX_BREACHES:
        found = f"{error.error_count()} breaches of the schema"
        return [Problem("LADD-010", where, found, "a document that fulfils it", _RESTORE)]
    problems = []
    for item in error.errors():
        path = ".".join(str(step) for step in item["loc"])
        clause = "LADD-013" if item["type"] == "value_error" else "LADD-010"
        value = repr(item["input"])
        found = item["msg"].removeprefix("Value error, ") if clause == "LADD-013" else value[:80]
        expected = "fields that agree with each other" if clause == "LADD-013" else item["msg"]
        problems.append(Problem(clause, f"{where}, {path}" if path else where, found, expected, _RESTORE))
    return problems
