"""The rungs of the ladder: ways to store one dataset's labels, each made to be measured and trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from ladd_data.dataset import Dataset, load
from ladd_data.encodings.profiles import ENCODINGS, coding_of_encoding
from ladd_data.errors import UsageError
from ladd_data.ledger import count_raw
from ladd_data.manifest import Certificate, Coding
from ladd_data.reencode import Keep, reencode_set

HARD = "hard"
"""The rung without dense labels: what students learn from the images and their classes alone."""
_NAME = re.compile(r"([a-z0-9]+)(?:-([0-9]+))?(?:@([0-9]+))?")
_HOW = f"expected {', '.join(name for name in ENCODINGS if name != 'topk')}, topk-K or {HARD}; with @N for N views"


@dataclass(frozen=True, slots=True)
class Made:
    """A rung, made.

    dataset: opened with the rung's labels. stored: bytes of the label columns in files, places of views and marks of
    missing ones included. raw: bytes of their values as they are; pruned ones do not count. labels: of an image.
    certificate: error against the labels that the ladder began with; None where there are no labels.
    """

    dataset: Dataset
    stored: int
    raw: int
    labels: int
    certificate: Certificate | None


class Rung(Protocol):
    """A way to have labels for a dataset's views."""

    @property
    def name(self) -> str:
        """What tables call it, and the user."""

    def make(self, base: Dataset) -> Made:
        """Make it beside the base, whose folder may be written to.

        Raises:
            UsageError: it cannot be made of these labels.
        """


@dataclass(frozen=True, slots=True)
class Reencoded:
    """The labels in another coding, of all views or of fewer."""

    name: str
    coding: Coding
    keep: Keep | None = None

    def make(self, base: Dataset) -> Made:
        """Store the labels as a label set of the base's folder."""
        name = f"rung-{self.name.replace('@', '-of-')}"
        manifest = reencode_set(base, name, self.coding, keep=self.keep, overwrite=True)
        dataset = load(base.folder.path, labels=name)
        labels = manifest.labels
        views = labels.count if labels is not None else 0
        kept = min(self.keep.views, views) if self.keep is not None else views
        columns = dataset.folder.column_bytes()
        return Made(
            dataset=dataset,
            stored=sum(size for column, size in columns.items() if column.startswith(("dense_", "view_"))),
            raw=round(count_raw(dataset.folder).dense_labels * kept / views),
            labels=kept,
            certificate=labels.certificate if labels is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Hard:
    """No dense labels at all."""

    name: str = HARD

    def make(self, base: Dataset) -> Made:
        """Return the base itself, of whose labels nothing is counted."""
        return Made(base, 0, 0, 0, None)


def default_rungs(classes: int, views: int) -> tuple[str, ...]:
    """Return the names of the usual ladder.

    Args:
        classes: of the dataset.
        views: of an image.
    """
    tops = [f"topk-{k}" for k in (10, 3, 1) if k < classes / 2]
    fewer = sorted({views // 2, views // 5, 1} - {0, views}, reverse=True)
    pruned = [f"{name}@{kept}" for name in ("float32", "q8") for kept in fewer]
    return ("float32", "float16", "q8", "q4", *tops, *pruned)


def read_rungs(
    names: Sequence[str],
    classes: int,
    views: int,
    *,
    logz: bool = False,
    seed: int = 0,
    others: Mapping[str, Rung] = MappingProxyType({}),
) -> tuple[Rung, ...]:
    """Return rungs by name, such as "q8", "topk-5", "q4@5" (of 5 views an image) or "hard".

    Args:
        names: each once.
        classes: of the dataset.
        views: of an image.
        logz: whether to keep what gives logits back.
        seed: of the draw of views that are kept.
        others: rungs of other kinds, by name.

    Raises:
        UsageError: one is not known, or keeps more classes or views than there are.
    """
    return tuple(
        others[name] if name in others else _read_rung(name, classes, views, logz, seed)
        for name in dict.fromkeys(names)
    )


def _read_rung(name: str, classes: int, views: int, logz: bool, seed: int) -> Rung:
    if name == HARD:
        return Hard()
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in ENCODINGS or (found[1] == "topk") != (found[2] is not None):
        raise UsageError(f'rung "{name}": {_HOW}.')
    coding = coding_of_encoding(found[1], classes, k=int(found[2]) if found[2] else None, logz=logz)
    if found[3] is None:
        return Reencoded(name, coding)
    if not 1 <= int(found[3]) < views:
        raise UsageError(f'rung "{name}": expected 1 .. {views - 1} views, fewer than the {views} there are.')
    return Reencoded(name, coding, Keep(int(found[3]), seed))
