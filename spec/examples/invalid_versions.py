"""Invalid cases: shards, records and labels that are sound, and not those that the manifest is about."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from building import LABELLED, Document, Draft, Plan, make_draft, seal, write_draft
from cases import MANIFEST, SHARD, SHARDS, TWO, Case, Where, at, edit_list, rewrite
from tars import PLAIN_TAR

from ladd_data.png import encode_png

PLAIN = Plan()
HALVES = replace(PLAIN, rows_per_shard=2)
OTHER = "data/part-0.parquet"


def from_another(path: str, sealed: bool) -> Callable[[Path], None]:
    """Return a change of a folder: a shard of the dataset's next version; `sealed` states its checksum."""

    def change(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as home:
            draft = make_draft(HALVES)
            draft.records.labels[:] = draft.records.labels[::-1].copy()
            write_draft(draft, Path(home, "set"))
            shutil.copyfile(Path(home, "set", path), folder / path)
        if sealed:
            seal(folder)

    return change


def move(old: str, new: str) -> Callable[[Path], object]:
    """Return a change of a folder: a file under another name."""
    return lambda folder: (folder / old).rename(folder / new)


def copy(old: str, new: str) -> Callable[[Path], object]:
    """Return a change of a folder: a file that is there twice."""
    return lambda folder: shutil.copyfile(folder / old, folder / new)


def copy_and_list(folder: Path) -> None:
    """Put the first shard in the place of the second."""
    shutil.copyfile(folder / TWO[0], folder / TWO[1])
    seal(folder)


def list_twice(folder: Path) -> None:
    """List the shard twice."""
    edit_list(lambda document: document["shards"].append(document["shards"][0]))(folder)


def exchange_ids(table: pa.Table) -> pa.Table:
    """Give two records each other's id, as a tool that keeps our key would."""
    order = pa.array([0, 2, 1, 3])
    table = table.set_column(2, "id", table.column("id").take(order))
    paths = [f"{name}.png" for name in table.column("id").to_pylist()]
    images = [{"bytes": i["bytes"], "path": p} for i, p in zip(table.column("image").to_pylist(), paths, strict=True)]
    return table.set_column(0, "image", pa.array(images, table.schema.field("image").type))


def exchange_labels(draft: Draft) -> None:
    """Give the first and the second record each other's dense labels."""
    for values in draft.records.dense.values():
        values[[0, 1]] = values[[1, 0]]


def transpose_pixels(draft: Draft) -> None:
    """Turn every image over its diagonal, after labeling."""
    draft.pixels = np.ascontiguousarray(draft.pixels.swapaxes(2, 3))
    draft.records.images = [encode_png(image, draft.plan.png) for image in draft.pixels]


def one_class_more(document: Document) -> None:
    """State a class more, by a labeler unknown."""
    document["classes"]["names"].append("dog")
    document["labels"]["labeler"] = None


def halves(name: str, about: str, after: Callable[[Path], object], *problems: tuple[str, Where]) -> Case:
    """Return a case of two shards."""
    return Case(name, about, HALVES, after=after, problems=problems)


CASES = [
    halves(
        "shards-of-two-versions",
        "The second shard is of another version: the list knows.",
        from_another(TWO[1], sealed=False),
        ("LADD-003", at(TWO[1])),
    ),
    halves(
        "shards-of-two-versions-and-listed",
        "The same, with its new checksum: its own manifest knows.",
        from_another(TWO[1], sealed=True),
        ("LADD-005", at(TWO[1])),
    ),
    halves("shard-twice", "The first shard in the second's place.", copy_and_list, ("LADD-005", at(TWO[1]))),
    Case(
        "shard-copied",
        "A copy of the shard beside it.",
        PLAIN,
        after=copy(SHARD, OTHER),
        problems=(("LADD-002", at(OTHER)),),
    ),
    Case(
        "shard-renamed",
        "The shard under another name than the listed one.",
        PLAIN,
        after=move(SHARD, OTHER),
        problems=(("LADD-002", at(OTHER)), ("LADD-002", at(SHARD))),
    ),
    Case("list-shard-twice", "A shard listed twice.", PLAIN, after=list_twice, problems=(("LADD-002", at(SHARDS)),)),
    Case(
        "list-of-another-edition",
        "The list calls a tar Parquet.",
        PLAIN_TAR,
        after=edit_list(lambda document: document.update(edition="parquet")),
        problems=(("LADD-004", at(SHARDS)),),
    ),
    Case(
        "ids-exchanged",
        "Two records have each other's id.",
        LABELLED,
        after=rewrite(exchange_ids),
        problems=tuple((clause, at(MANIFEST)) for clause in ("LADD-025", "LADD-034", "LADD-026")),
    ),
    Case(
        "labels-of-another-record",
        "Two records have each other's dense labels: a golden view shows it.",
        LABELLED,
        change=exchange_labels,
        problems=(("LADD-043", at(SHARD, 0)),),
    ),
    Case(
        "images-transposed",
        "Height and width exchanged after labeling: golden views show it.",
        LABELLED,
        change=transpose_pixels,
        problems=(("LADD-042", at(SHARD, 0)), ("LADD-042", at(SHARD, 3))),
    ),
    Case(
        "classes-one-more",
        "A class more than the labels have.",
        LABELLED,
        state=one_class_more,
        problems=(("LADD-030", at(SHARD)),),
    ),
    Case(
        "classes-one-more-without-labels",
        "A class more than the shard's features have.",
        PLAIN,
        state=lambda document: document["classes"]["names"].append("dog"),
        problems=(("LADD-006", at(SHARD)),),
    ),
]
