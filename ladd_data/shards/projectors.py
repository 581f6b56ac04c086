"""Projectors on disk: labels/NAME/projector.json, the adapters' weights beside it, and the checks of both.

Plain JSON and safetensors. Nothing here builds a network, and none of it needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ladd_data.errors import DatasetError, Problem, UsageError, nearest
from ladd_data.files import (
    MAX_JSON_BYTES,
    LimitError,
    canonical_json,
    parse_json_strictly,
    read_limited,
    sha256_file,
)
from ladd_data.manifest import classes_digest
from ladd_data.manifest_json import parse_projector_set
from ladd_data.manifest_projector import STATEMENT, WEIGHTS, ProjectorSet, projector_digest
from ladd_data.shards.folder import Folder
from ladd_data.shards.label_sets import LABELS_FOLDER, check_kinds, is_set_name

_AGAIN = "Download the label set again, or remove it: ladd labels DIR --remove NAME."
_TYPES = {"float32": "F32", "float16": "F16"}

ADAPTER = "base_model.model."
"""What the names of the backbone's adapters begin with, as peft writes them: ADAPTER + layer + .lora_A.weight."""


@dataclass(frozen=True, slots=True)
class ProjectorFiles:
    """A projector's files, whose statement has been read; `path`: the folder labels/NAME."""

    path: Path
    statement: ProjectorSet

    @property
    def name(self) -> str:
        """The set's name."""
        return self.path.name

    @property
    def place(self) -> str:
        """Where the set is in the dataset."""
        return f"{LABELS_FOLDER}/{self.name}"

    @property
    def bytes(self) -> int:
        """Of all files in the folder."""
        return (self.path / STATEMENT).stat().st_size + sum(size for size, _ in self.statement.files.values())

    def check(self, *, values: bool = False) -> list[Problem]:
        """Compare the files with the statement: names, sizes, SHA-256, and the tensors' names and shapes.

        Args:
            values: look at every number of the adapters as well.
        """
        listed = {STATEMENT, *self.statement.files}
        present = {item.name for item in self.path.iterdir() if not item.name.startswith(".")}
        problems = [
            _bad("LADD-100", self.place, f"a file {name!r} that {STATEMENT} does not name", "only those that it names")
            for name in sorted(present - listed)
        ]
        for name, (size, digest) in self.statement.files.items():
            problems += self._check_file(name, size, digest)
        if not problems:
            problems = self._check_tensors(values)
        return problems

    def _check_file(self, name: str, size: int, digest: str) -> list[Problem]:
        path, where = self.path / name, f"{self.place}/{name}"
        try:
            if (found := path.stat().st_size) != size:
                return [_bad("LADD-102", where, f"{found} bytes", f"{size}, as {STATEMENT} says")]
            if (sha256 := sha256_file(path)) != digest:
                return [_bad("LADD-102", where, f"sha256 {sha256}", f"{digest}, as {STATEMENT} says")]
        except OSError as error:
            return [_bad("LADD-100", where, error.strerror or str(error), f"the file that {STATEMENT} names")]
        return []

    def _check_tensors(self, values: bool) -> list[Problem]:
        where = f"{self.place}/{WEIGHTS}"
        try:
            shapes = read_shapes(self.path / WEIGHTS)
            wrong = _compare_tensors(shapes, self.statement)
            if wrong is None and values:
                wrong = _find_infinite(self.path / WEIGHTS)
        except LimitError as error:
            return [_bad("LADD-080", where, str(error), "a header of sensible size")]
        except (SafetensorError, OSError, ValueError) as error:
            found = f"no readable safetensors file ({' '.join(str(error).split())[:200]})"
            return [_bad("LADD-103", where, found, "tensors of the projector")]
        return [] if wrong is None else [_bad("LADD-103", where, *wrong)]


def list_projectors(path: Path) -> list[str]:
    """Return the names of the projectors in a dataset folder, in alphabetical order."""
    home = path / LABELS_FOLDER
    if home.is_symlink() or not home.is_dir():
        return []
    return sorted(item.name for item in home.iterdir() if (item / STATEMENT).is_file() and is_set_name(item.name))


def list_whole_projectors(path: Path) -> list[str]:
    """Return those of which more than the statement is there: of a dataset of the Hub, those that were asked for."""
    return [name for name in list_projectors(path) if (path / LABELS_FOLDER / name / WEIGHTS).exists()]


def open_projector(folder: Folder, name: str) -> ProjectorFiles:
    """Read what a projector says of itself, and compare it with the dataset; its other files are not looked at.

    Raises:
        UsageError: there is no such projector; names those there are.
        DatasetError: the statement is missing or malformed, or of other images or classes.
    """
    known = list_projectors(folder.path)
    if name not in known:
        sets = nearest(name, known) if known else 'It has none: "ladd train-projector DIR --as NAME" adds one.'
        raise UsageError(f'{folder.path}: no projector "{name}". {sets}')
    if links := check_kinds(folder.path):
        raise DatasetError(links)
    where = f"{LABELS_FOLDER}/{name}/{STATEMENT}"
    statement = _read_statement(folder.path, name, where)
    manifest = folder.manifest
    stated = (
        ("images", "images of digest", statement.images, manifest.images.digest),
        ("classes", "classes of digest", statement.classes, classes_digest(manifest.classes)),
        ("count", "records, in number", str(statement.count), str(manifest.images.count)),
        ("width", "classes, in number", str(statement.width), str(len(manifest.classes.names))),
    )
    again = "Train it for these images: ladd train-projector DIR --as NAME; or get the images that it was made for."
    problems = [
        Problem("LADD-101", f"{where}, {key}", f"a projector of {what} {theirs}", f"{ours}, as the dataset's", again)
        for key, what, theirs, ours in stated
        if theirs != ours
    ]
    if not problems and (digest := projector_digest(statement)) != statement.digest:
        problems = [_bad("LADD-101", f"{where}, digest", statement.digest, digest)]
    if problems:
        raise DatasetError(problems)
    return ProjectorFiles(folder.path / LABELS_FOLDER / name, statement)


def read_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the tensors of a safetensors file as name -> (dtype, shape), without reading them.

    Raises:
        LimitError: the header is larger than metadata may be.
        ValueError: the file is no safetensors file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_JSON_BYTES:
        raise LimitError(f"a header of {length} bytes, more than the {MAX_JSON_BYTES} that it may have")
    try:
        with safe_open(path, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (no iterator)
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read_statement(folder: Path, name: str, where: str) -> ProjectorSet:
    try:
        content = read_limited(folder / where)
    except LimitError as error:
        raise DatasetError([_bad("LADD-080", where, str(error), "a metadata file of sensible size")]) from error
    except OSError as error:
        raise DatasetError([_bad("LADD-100", where, error.strerror or str(error), "a readable file")]) from error
    statement = parse_projector_set(content, where)
    if canonical_json(parse_json_strictly(content)) != content:
        raise DatasetError([_bad("LADD-100", where, "bytes other than the writer's", "canonical JSON")])
    if statement.name != name:
        raise DatasetError([_bad("LADD-100", where, f'name "{statement.name}"', f'"{name}", that of its folder')])
    return statement


def _compare_tensors(found: dict[str, tuple[str, tuple[int, ...]]], stated: ProjectorSet) -> tuple[str, str] | None:
    """Return (found, expected) of the first tensor that a projector cannot have."""
    projector, rank = stated.projector, stated.projector.adapters.rank
    head = {
        "head.lora_A.weight": (projector.head.rank, projector.backbone.features),
        "head.lora_B.weight": (stated.width, projector.head.rank),
        "head.bias": (stated.width,),
    }
    for name, shape in head.items():
        if found.get(name, ("", ()))[1] != shape:
            return f"{name} {list(found[name][1]) if name in found else 'absent'}", str(list(shape))
    for name, (dtype, shape) in found.items():
        if dtype != _TYPES[projector.dtype]:
            return f"{name} of {dtype}", projector.dtype
        if name in head:
            continue
        layer, dot, side = name.removeprefix(ADAPTER).rpartition(".lora_")
        if not name.startswith(ADAPTER) or not dot or side not in ("A.weight", "B.weight"):
            return f"a tensor {name[:120]!r}", f"{ADAPTER}LAYER.lora_A.weight, .lora_B.weight and those of the head"
        if f"{ADAPTER}{layer}.lora_{'B' if side[0] == 'A' else 'A'}.weight" not in found:
            return f"{name} alone", "lora_A and lora_B of each layer"
        ranks = shape[0] if side[0] == "A" else shape[1] if len(shape) > 1 else 0
        if len(shape) not in (2, 4) or ranks != rank:
            return f"{name} {list(shape)}", f"a layer of rank {rank}"
    return None


def _find_infinite(path: Path) -> tuple[str, str] | None:
    with safe_open(path, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (no iterator)
            if not np.isfinite(tensors.get_tensor(name)).all():
                return f"NaN or infinity in {name}", "finite numbers"
    return None


def _bad(clause: str, where: str, found: str, expected: str) -> Problem:
    return Problem(clause, where, found, expected, _AGAIN)
