"""Label sets and mixed views: valid cases, and cases of one mistake in either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from building import LABELLED, Document, Draft, Plan, add_set
from cases import CARD, MANIFEST, SHARD, Case, at, plan_of, set_to, swap

from ladd_data.card.sets import offer_sets
from ladd_data.files import canonical_json, sha256_file
from ladd_data.manifest import Boxes, Full, Mix
from ladd_data.shards.folder import read_metadata
from ladd_data.types import Edition

CUTMIX, MIXUP = Mix(count=3, cutmix=True), Mix(count=3, flip=True, mixup=True)
BOTH = Mix(count=4, flip=True, cutmix=True, mixup=True, resample="pillow-bilinear")
MIXED = replace(LABELLED, kind=BOTH)
PLAIN = Plan()
HOME = "labels/extra"
STATEMENT, LISTING, SHARD_OF_SET = f"{HOME}/labels.json", f"{HOME}/shards.json", f"{HOME}/train-00000-of-00001.parquet"
WHOLE = plan_of("float32", kind=Full())

EDITIONS: tuple[tuple[Edition, str], ...] = (("webdataset", "tar"), ("arrow", "arrow"))

After = Callable[[Path], object]


def extra(*changes: After, plan: Plan = WHOLE) -> After:
    """Return a change of a folder: a label set of a plan, and then what is wrong with it."""

    def change(folder: Path) -> None:
        add_set(folder, "extra", plan)
        for one in changes:
            one(folder)

    return change


def two(folder: Path) -> None:
    """Add two sets."""
    add_set(folder, "extra", MIXED)
    add_set(folder, "other-0_9", plan_of("q4"))


def off_the_card(folder: Path) -> None:
    """Offer the set no more."""
    offer_sets(read_metadata(folder), without="extra")


def leave_leftovers(folder: Path) -> None:
    """Leave what a writer that was stopped leaves."""
    (folder / "labels/.more.partial").mkdir()
    (folder / "labels/.more.partial/train-00000-of-00001.parquet").write_bytes(b"")


def edit_statement(change: Callable[[Document], object]) -> After:
    """Return a change of a folder: the statement, by value; the shards' footers say the same, the list is sealed."""

    def edit(folder: Path) -> None:
        document = json.loads((folder / STATEMENT).read_bytes())
        change(document)
        (folder / STATEMENT).write_bytes(canonical_json(document))
        rewrite_set()(folder)

    return edit


def rewrite_set(
    change: Callable[[pa.Table], pa.Table] = lambda table: table,
    keys: Callable[[dict[bytes, bytes]], object] = lambda keys: None,
) -> After:
    """Return a change of a folder: the set's shard, written again with the keys that its statement asks for."""

    def edit(folder: Path) -> None:
        content = (folder / STATEMENT).read_bytes()
        with pq.ParquetFile(folder / SHARD_OF_SET) as file:
            found, table = dict(file.metadata.metadata), change(file.read())
        found.pop(b"ARROW:schema", None)
        footer = json.loads(found[b"ladd"])
        footer |= {"labels": json.loads(content), "labels_sha256": hashlib.sha256(content).hexdigest()}
        found[b"ladd"] = json.dumps(footer).encode()
        keys(found)
        options: dict[str, Any] = {"use_dictionary": False, "write_page_checksum": True, "compression": "ZSTD"}
        pq.write_table(table.replace_schema_metadata(found), folder / SHARD_OF_SET, **options)
        seal_set(folder)

    return edit


def seal_set(folder: Path) -> None:
    """Write the set's list anew, with what its shard now is."""
    document = json.loads((folder / LISTING).read_bytes())
    path, shard = folder / SHARD_OF_SET, document["shards"][0]
    shard |= {"bytes": path.stat().st_size, "sha256": sha256_file(path), "rows": pq.read_metadata(path).num_rows}
    (folder / LISTING).write_bytes(canonical_json(document))


def edit_list(path: str, value: object) -> After:
    """Return a change of a folder: a value in the set's list."""

    def edit(folder: Path) -> None:
        document = json.loads((folder / LISTING).read_bytes())
        set_to(path, value)(document)
        (folder / LISTING).write_bytes(canonical_json(document))

    return edit


def put(column: str, place: tuple[int, ...], value: object) -> Callable[[Draft], None]:
    """Return a change of a draft: one value of a column."""

    def change(draft: Draft) -> None:
        draft.records.dense[column][place] = value

    return change


def turn(draft: Draft) -> None:
    """Mix each view with the record before the one it was mixed with."""
    partner = draft.records.dense["view_partner"]
    draft.records.dense["view_partner"] = (partner + len(partner) - 1) % len(partner)


def wrong(name: str, about: str, *problems: tuple[str, Any], after: After, plan: Plan = PLAIN) -> Case:
    """Return an invalid case of a dataset with a label set."""
    return Case(f"set-{name}", about, plan, after=after, problems=problems)


def mistake(name: str, about: str, clause: str, column: str, place: tuple[int, ...], value: object) -> Case:
    """Return an invalid case of one value in what views are mixed with."""
    change = put(column, place, value)
    return Case(f"mix-{name}", about, MIXED, change, problems=((clause, at(SHARD, place[0])),))


VALID = [
    Case("mix-cutmix", "Views with a box of another view pasted in.", replace(LABELLED, kind=CUTMIX)),
    Case("mix-mixup", "Views blended with others, some mirrored.", replace(LABELLED, kind=MIXUP)),
    Case("mix-both", "Pasted, blended or neither, from crops resized as Pillow does.", MIXED),
    Case("mix-missing", "Mixed views, some of them missing.", replace(MIXED, present=True)),
    Case("mix-with-itself", "A view that is mixed with itself.", MIXED, put("view_partner", (1, 2), 1)),
    Case(
        "boxes-like-pillow",
        "Boxes resized as Pillow does.",
        replace(LABELLED, kind=Boxes(count=3, resample="pillow-bilinear")),
    ),
    *(Case(f"{short}-mix", "Mixed views.", replace(MIXED, edition=edition)) for edition, short in EDITIONS),
    Case("set", "A label set beside the labels in the records.", after=extra()),
    Case("set-alone", "Images without labels, and a label set of mixed views.", PLAIN, after=extra(plan=MIXED)),
    Case("sets", "Two label sets.", after=two),
    Case("set-not-on-the-card", "A label set that the card does not offer.", after=extra(off_the_card)),
    Case("set-with-leftovers", "What a writer that was stopped has left.", after=extra(leave_leftovers)),
    Case("set-soft", "A label set beside whole-image soft labels.", Plan(soft="logits"), after=extra()),
    Case("set-missing-views", "A label set with missing views.", after=extra(plan=plan_of("q8", present=True))),
    *(
        Case(f"{short}-set", "A label set.", replace(LABELLED, edition=edition), after=extra(plan=MIXED))
        for edition, short in EDITIONS
    ),
]

INVALID = [
    mistake("partner-beyond", "A partner that no record is.", "LADD-046", "view_partner", (2, 1), 4),
    mistake("view-beyond", "A partner's view that there is not.", "LADD-046", "view_partner_view", (2, 1), 4),
    mistake("box-beyond", "A pasted box that leaves the view.", "LADD-046", "view_mix_box", (0, 3), (5, 0, 4, 4)),
    mistake("share-beyond", "A share above 1.", "LADD-046", "view_mix_lambda", (2, 2), 1.5),
    mistake("both-ways", "A view pasted into and blended.", "LADD-046", "view_mix_lambda", (0, 3), 0.5),
    mistake("box-outside", "A box outside of the image.", "LADD-044", "view_box", (2, 1), (0, 0, 9, 1)),
    Case(
        "mix-share-nan",
        "A share that is no number.",
        MIXED,
        put("view_mix_lambda", (2, 2), np.nan),
        problems=(("LADD-046", at(SHARD, 2)),),
    ),
    Case(
        "mix-of-neither",
        "Mixed views without a way of mixing.",
        LABELLED,
        state=set_to("labels.views", {"kind": "mix", "count": 9}),
        problems=(("LADD-013", at(MANIFEST)),),
    ),
    Case(
        "mix-partners-turned",
        "Each view mixed with another record than it was.",
        MIXED,
        turn,
        problems=(("LADD-042", at(SHARD, 0)), ("LADD-042", at(SHARD, 3))),
    ),
    wrong("list-missing", "No list.", ("LADD-090", at(LISTING)), after=extra(lambda f: (f / LISTING).unlink())),
    wrong(
        "statement-missing",
        "A folder without a statement.",
        ("LADD-090", at(HOME)),
        after=extra(lambda f: (f / STATEMENT).unlink(), off_the_card),
    ),
    wrong(
        "shard-missing",
        "A shard less.",
        ("LADD-090", at(SHARD_OF_SET)),
        after=extra(lambda f: (f / SHARD_OF_SET).unlink()),
    ),
    wrong("file-unlisted", "A file more.", ("LADD-090", at(HOME)), after=extra(lambda f: (f / HOME / "more").touch())),
    wrong(
        "name-default",
        "A set named as the labels in the records.",
        ("LADD-090", at("labels/default")),
        after=extra(off_the_card, lambda f: (f / HOME).rename(f / "labels/default")),
    ),
    wrong(
        "of-another-name",
        "A folder that was renamed.",
        ("LADD-091", at("labels/other/labels.json")),
        after=extra(off_the_card, lambda f: (f / HOME).rename(f / "labels/other")),
    ),
    wrong(
        "statement-reformatted",
        "A statement with other spacing.",
        ("LADD-091", at(STATEMENT)),
        after=extra(swap(STATEMENT, "  ", " ")),
    ),
    wrong(
        "field-unknown",
        "A field that there is not.",
        ("LADD-010", at(STATEMENT)),
        after=extra(edit_statement(set_to("weather", "sun"))),
    ),
    wrong(
        "of-other-images",
        "Labels of other images.",
        ("LADD-092", at(STATEMENT)),
        after=extra(edit_statement(set_to("images", "ab" * 32))),
    ),
    wrong(
        "of-other-classes",
        "Labels of another class list.",
        ("LADD-092", at(STATEMENT)),
        after=extra(edit_statement(set_to("classes", "ab" * 32))),
    ),
    wrong(
        "coding-contradictory",
        "float16 probabilities.",
        ("LADD-013", at(STATEMENT)),
        after=extra(edit_statement(set_to("labels.coding", {"space": "probs", "dtype": "float16"}))),
    ),
    wrong(
        "list-reformatted",
        "A list with other spacing.",
        ("LADD-093", at(LISTING)),
        after=extra(swap(LISTING, "  ", " ")),
    ),
    wrong(
        "list-of-more-rows",
        "A list of more rows than the shard has.",
        ("LADD-093", at(LISTING)),
        ("LADD-093", at(SHARD_OF_SET)),
        after=extra(edit_list("shards.0.rows", 5)),
    ),
    wrong(
        "shard-changed",
        "A byte of a shard that changed.",
        ("LADD-093", at(SHARD_OF_SET)),
        after=extra(lambda f: (f / SHARD_OF_SET).write_bytes(flip((f / SHARD_OF_SET).read_bytes()))),
    ),
    wrong(
        "statement-edited",
        "A statement that was edited, and the shards were not.",
        ("LADD-094", at(SHARD_OF_SET)),
        after=extra(swap(STATEMENT, '"max_tv": 0.002', '"max_tv": 0.001')),
    ),
    wrong(
        "shard-rewritten",
        "A shard that other tools wrote again.",
        ("LADD-094", at(SHARD_OF_SET)),
        after=extra(rewrite_set(keys=lambda keys: keys.pop(b"ladd"))),
    ),
    wrong(
        "features-missing",
        "A shard without features for datasets.",
        ("LADD-094", at(SHARD_OF_SET)),
        after=extra(rewrite_set(keys=lambda keys: keys.pop(b"huggingface"))),
    ),
    wrong(
        "column-missing",
        "A column less.",
        ("LADD-095", at(SHARD_OF_SET)),
        after=extra(rewrite_set(lambda table: table.drop_columns(["dense_logz"]))),
    ),
    wrong(
        "records-in-another-order",
        "Labels in another order than the images.",
        ("LADD-095", at(SHARD_OF_SET, 0, "000003")),
        after=extra(rewrite_set(lambda table: table.take(pa.array([3, 2, 1, 0])))),
    ),
    wrong(
        "label-changed",
        "Labels other than those of the digest.",
        ("LADD-034", at(STATEMENT)),
        ("LADD-096", at(STATEMENT)),
        after=extra(rewrite_set(lambda table: shift_logz(table))),
    ),
    wrong(
        "digest-of-another",
        "The digest of another dataset.",
        ("LADD-096", at(STATEMENT)),
        after=extra(edit_statement(set_to("digest", "ab" * 32))),
    ),
    wrong(
        "golden-of-other-pixels",
        "A golden view with other pixels.",
        ("LADD-042", at(SHARD_OF_SET, 0)),
        after=extra(edit_statement(set_to("labels.golden.0.pixels", "ab" * 32))),
    ),
    wrong(
        "certificate-of-nonsense",
        "A mean above its maximum.",
        ("LADD-035", at(STATEMENT)),
        after=extra(edit_statement(set_to("labels.certificate.mean_kl", 0.5))),
    ),
    wrong(
        "on-the-card-only",
        "A config that leads to no set.",
        ("LADD-097", at(CARD)),
        after=lambda folder: swap(
            CARD,
            "dataset_info:",
            "- config_name: extra\n  data_files:\n  - split: train\n    path: labels/extra/train-*\ndataset_info:",
        )(folder),
    ),
    wrong(
        "config-of-other-files",
        "A config that leads to other files than the set's.",
        ("LADD-097", at(CARD)),
        after=extra(swap(CARD, "path: labels/extra/train-*", "path: labels/*/train-*")),
    ),
    wrong(
        "link",
        "A set that is a symbolic link.",
        ("LADD-085", at(HOME)),
        after=extra(lambda f: (f / HOME).rename(f / ".extra"), lambda f: (f / HOME).symlink_to("../.extra")),
    ),
]


def flip(data: bytes) -> bytes:
    """Change a bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def shift_logz(table: pa.Table) -> pa.Table:
    """Add one to every log-sum-exp."""
    column = table["dense_logz"].combine_chunks()
    values = column.values.to_numpy() + np.float32(1)
    moved = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), type=column.type)
    return table.set_column(table.column_names.index("dense_logz"), table.schema.field("dense_logz"), moved)
