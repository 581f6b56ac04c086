"""The valid cases: what the format allows, one thing a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from building import LABELLED, Document, Draft, Plan
from cases import CARD, SHARD, SHARDS, Case, add_face, both, drop, plan_of, set_to, swap
from jpeg_cases import VALID as JPEGS
from label_set_cases import VALID as SETS
from projector_cases import VALID as PROJECTORS

from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.manifest import Boxes, Coding, Full
from ladd_data.types import Edition

PLAIN = Plan()
PRUNED = replace(LABELLED, present=True)
SPACES: tuple[Literal["probs", "logits", "targets"], ...] = ("probs", "logits", "targets")


def rename(draft: Draft) -> None:
    """Give ids of all kinds, not in order."""
    draft.records.ids[:] = ["z", "A-1_b", "0", "a" * 64]
    if draft.document["labels"]:
        for golden, name in zip(draft.document["labels"]["golden"], ("z", "a" * 64), strict=True):
            golden["id"] = name


def is_newer(document: Document) -> None:
    """Make a manifest of a version to come, with keys that no reader knows yet."""
    document["spec_version"] = "1.9"
    document["weather"] = {"sun": True}
    document["images"]["hologram"] = [1, 2]
    document["labels"]["golden"][0]["scent"] = "rose"


def without_optional(document: Document) -> None:
    """Take every optional field away."""
    for key in ("requires", "license", "citation", "labels", "extensions"):
        drop(key)(document)
    for key in ("ids", "source"):
        drop(f"classes.{key}")(document)


def more_card(folder: Path) -> None:
    """Add to the card what a person may add."""
    swap(CARD, "pretty_name", "language: en\npretty_name")(folder)
    with (folder / CARD).open("a", encoding="utf-8") as file:
        file.write("\n## Notes\n\nMade by hand.\n")


def name_shard(folder: Path) -> None:
    """Give the shard a name of one's own."""
    (folder / SHARD).rename(folder / "data/train-of_mine.v1.parquet")
    swap(SHARDS, SHARD, "data/train-of_mine.v1.parquet")(folder)


def outermost(draft: Draft) -> None:
    """Make boxes, but for golden views, of one pixel in the last corner, and of the whole image."""
    draft.records.dense["view_box"][1, 0] = (7, 7, 1, 1)
    draft.records.dense["view_box"][1, 1] = (0, 0, 8, 8)


def leave_all(draft: Draft) -> None:
    """Call every view present; the uniform labels of some are labels then."""
    draft.records.dense["view_present"][:] = True


def name_classes(draft: Draft) -> None:
    """Give the classes ids, and names beyond ASCII."""
    names = {"names": ["Ameise", "蜂", "chat"], "ids": ["n1", "n2", "n3"], "source": "imagenet-1k"}
    draft.document["classes"] = names
    Draft.__post_init__(draft)  # the columns know the names


def leave_nothing(draft: Draft) -> None:
    """Make top-k labels that know of no probability left."""
    draft.records.dense["dense_tail_log_prob"][1] = np.float16(-65504)
    values = draft.records.dense["dense_topk_log_probs"]
    values[1] = np.float16(np.log(1 / values.shape[-1]))


CODINGS = {
    "paper": Coding(space="probs", dtype="float32"),
    "bfloat16": Coding(dtype="bfloat16"),
    "logits": Coding(space="logits", dtype="float16"),
    "logits-float32": Coding(space="logits", dtype="float32"),
    "float16-without-logz": Coding(),
    "compact": Coding(encoding="q4"),
}

BOXES = replace(LABELLED, kind=Boxes(count=3))
EDITIONS: dict[Edition, str] = {"webdataset": "tar", "arrow": "arrow"}


def in_edition(edition: Edition, short: str) -> list[Case]:
    """Return the cases of one of the other editions."""

    def case(name: str, about: str, plan: Plan, state: Callable[[Document], object] = lambda document: None) -> Case:
        return Case(f"{short}-{name}", about, replace(plan, edition=edition, count=plan.count // 2), state=state)

    return [
        case("unlabelled", "Images and hard labels.", PLAIN),
        case("greyscale", "One channel.", replace(PLAIN, channels=1)),
        case("not-square", "Images wider than high.", replace(PLAIN, width=12)),
        case("png-small", "Deflated PNG files, or pixels that were in some.", replace(PLAIN, png="small")),
        *(case(f"labels-{name}", f"Dense labels in the encoding {name}.", plan_of(name)) for name in ENCODINGS),
        case("several-shards", "Shards of two records and one.", replace(LABELLED, rows_per_shard=2, count=6)),
        case("several-groups", "Groups of two records and one.", replace(LABELLED, rows_per_group=2, count=6)),
        case("one-record", "One record.", replace(LABELLED, count=2, classes=("ant", "bee"))),
        case("full-view", "The whole image as the one view.", replace(LABELLED, kind=Full())),
        case("boxes-flipped", "Boxes, some mirrored.", replace(BOXES, kind=Boxes(count=3, flip=True))),
        case("views-missing", "Views that are missing.", replace(LABELLED, present=True, count=8)),
        case("soft-probs", "Whole-image labels beside dense ones.", replace(LABELLED, soft="probs")),
        case("newer-minor-version", "A version to come, with keys not known yet.", LABELLED, is_newer),
    ]


CASES: list[Case] = [
    Case("unlabelled", "Four images, no dense labels.", PLAIN),
    Case("greyscale", "One channel, no dense labels.", replace(PLAIN, channels=1)),
    Case("greyscale-labelled", "One channel, dense labels.", replace(LABELLED, channels=1)),
    *(Case(f"labels-{name}", f"Dense labels in the encoding {name}.", plan_of(name)) for name in ENCODINGS),
    *(
        Case(f"labels-{name}", f"Dense labels stored as {coding.encoding}, {coding.space}, {coding.dtype}.", plan)
        for name, coding in CODINGS.items()
        for plan in [replace(LABELLED, coding=coding)]
    ),
    Case(
        "labels-q4-even-classes",
        "An even number of classes: every half byte is used.",
        plan_of("q4", classes=("a", "b")),
    ),
    Case(
        "labels-topk-no-tail", "A top-k label that leaves no probability: tail -65504.", plan_of("topk"), leave_nothing
    ),
    Case("labels-temperature", "Another temperature.", state=set_to("labels.temperature", 4.0)),
    Case(
        "labels-reencoded",
        "Labels with a parent, by a labeler unknown.",
        state=both(set_to("labels.parent", "cd" * 32), set_to("labels.labeler", None)),
    ),
    Case("grid-of-one", "One view, in the middle.", replace(LABELLED, n=1)),
    Case("grid-whole-image", "Views of the whole image.", replace(LABELLED, n=2, ratio="1/1")),
    Case("grid-five", "The paper's grid.", replace(LABELLED, n=5, count=2)),
    Case("grid-odd-ratio", "A ratio that no side of 8 is divisible by.", replace(LABELLED, ratio="2/3")),
    Case("several-shards", "Two shards of two records.", replace(LABELLED, rows_per_shard=2)),
    Case(
        "several-row-groups", "One shard of row groups of three records and one.", replace(LABELLED, rows_per_group=3)
    ),
    Case("one-record", "One record.", replace(LABELLED, count=1, classes=("ant", "bee"))),
    Case("not-square", "Images wider than high.", replace(LABELLED, width=12)),
    Case("png-small", "Deflated PNG files.", replace(PLAIN, png="small")),
    Case("zca", "Whitened pixels: range-coded, no normalization.", replace(PLAIN, whitening="zca", mode="range")),
    Case(
        "range",
        "Pixels stretched over each channel's range, both errors known.",
        replace(PLAIN, mode="range"),
        state=both(
            set_to("images.affine", {"scale": [0.01, 0.02, 0.03], "offset": [-1.0, -2.0, -3.0]}),
            set_to("images.quantization.range", {"rmse": 0.001, "max_abs": 0.002, "clipped_share": 0.0}),
            set_to("images.quantization.clip", {"rmse": 0.3, "max_abs": 2.0, "clipped_share": 0.5}),
        ),
    ),
    Case("ids-of-all-kinds", "Ids of one letter and of 64, not in order.", change=rename),
    Case(
        "class-ids",
        "Classes with ids in a source set, and names beyond ASCII.",
        change=name_classes,
    ),
    Case("newer-minor-version", "A version to come, with keys not known yet.", state=is_newer),
    Case("optional-fields-absent", "Nothing that may be left out.", PLAIN, state=without_optional),
    Case("extensions", "Vendor data.", state=set_to("extensions", {"acme": {"batch": 7, "notes": [None, "x"]}})),
    Case("shard-of-another-name", "A name of one's own, listed, with a card that finds it.", PLAIN, after=name_shard),
    Case("full-view", "The whole image as the one view.", replace(LABELLED, kind=Full())),
    Case("boxes", "Three boxes a record.", BOXES),
    Case("boxes-flipped", "Three boxes a record, some mirrored.", replace(BOXES, kind=Boxes(count=3, flip=True))),
    Case("boxes-missing", "Boxes, some of them missing.", replace(BOXES, present=True)),
    Case("box-of-one-pixel", "The least box and the largest.", BOXES, outermost),
    *(
        Case(
            f"views-missing-{name}",
            f"A third of a grid's views is missing, in the encoding {name}.",
            plan_of(name, present=True),
        )
        for name in ("float32", "float16", "q8", "q4", "topk")
    ),
    Case("views-missing-none", "A list of which none is missing.", PRUNED, leave_all),
    *(Case(f"soft-{space}", f"Whole-image soft {space}.", replace(PLAIN, soft=space)) for space in SPACES),
    Case("soft-and-dense", "Whole-image soft labels and dense ones.", replace(LABELLED, soft="logits")),
    *(case for edition, short in EDITIONS.items() for case in in_edition(edition, short)),
    Case("picture-and-croissant", "All that may stand beside the card.", after=add_face),
    Case("card-with-more", "A card with a field and a section added by hand.", after=more_card),
    *JPEGS,
    *SETS,
    *PROJECTORS,
]
