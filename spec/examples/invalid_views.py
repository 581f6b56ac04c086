"""Invalid cases: one mistake in boxes, in what view_present says, or in whole-image soft labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from building import LABELLED, Draft, Plan
from cases import MANIFEST, SHARD, Case, at, plan_of, rewrite, set_to
from invalid_files import columns, null
from invalid_records import all_wrong, put, wrong

from ladd_data.manifest import Boxes

BOXES = replace(LABELLED, kind=Boxes(count=3))
FLIPPED = replace(LABELLED, kind=Boxes(count=3, flip=True))
PRUNED = replace(LABELLED, present=True)
SOFT = Plan(soft="probs")


def box(place: tuple[int, int], value: tuple[int, int, int, int]) -> Callable[[Draft], None]:
    """Return a change of a draft: one box (y, x, height, width)."""
    return put("view_box", place, value)


def shifted(draft: Draft) -> None:
    """Give each view the box of the one before."""
    draft.records.dense["view_box"] = np.roll(draft.records.dense["view_box"], 1, 1)


def mirror(draft: Draft) -> None:
    """Mirror the views that were not, and the other way round."""
    draft.records.dense["view_flip"] = ~draft.records.dense["view_flip"]


def as_corners(draft: Draft) -> None:
    """State y, x and the far corner, where height and width belong."""
    boxes = draft.records.dense["view_box"]
    boxes[...] = (4, 4, 8, 8)


def prefer(draft: Draft) -> None:
    """Leave a label in views that are missing: what pruning by the list alone does."""
    draft.records.dense["dense_log_probs"][1, 4] = np.log([0.7, 0.2, 0.1])


def prefer_in_q8(draft: Draft) -> None:
    """The same in q8."""
    draft.records.dense["dense_q8"][1, 12:15], draft.records.dense["dense_q8_scale"][1, 4] = (0, 40, 80), 0.05


def deny(draft: Draft) -> None:
    """Call views missing that have labels."""
    draft.records.dense["view_present"][2] = False


def change_soft(table: pa.Table) -> pa.Table:
    """Change a soft label, as a tool that keeps our key would."""
    values = table.column("soft_probs").to_pylist()
    values[1] = [0.25, 0.5, 0.25]
    return table.set_column(3, "soft_probs", pa.array(values, table.schema.field("soft_probs").type))


def soft_columns(name: str, clause: str, about: str, change: Callable[[pa.Table], pa.Table], **where: Any) -> Case:
    """Return a case of whole-image labels whose table has another shape."""
    return Case(name, about, SOFT, after=rewrite(change), problems=((clause, at(SHARD, **where)),))


def wide(table: pa.Table) -> pa.Table:
    """Store soft labels as float64."""
    kind = pa.list_(pa.float64(), 3)
    return table.set_column(3, "soft_probs", pa.array(table.column("soft_probs").to_pylist(), kind))


def boxed(name: str, clause: str, about: str, change: Callable[[pa.Table], pa.Table], row: int | None = None) -> Case:
    """Return a case of boxes whose table has another shape."""
    return replace(columns(name, clause, about, change, at(SHARD, row)), plan=FLIPPED)


VIEWS = [
    wrong("box-beyond-the-right-edge", "LADD-044", "x 5 and 4 wide in 8.", box((2, 1), (0, 5, 4, 4)), 2, BOXES),
    wrong("box-beyond-the-lower-edge", "LADD-044", "y 7 and 2 high in 8.", box((2, 1), (7, 0, 2, 4)), 2, BOXES),
    wrong("box-of-no-height", "LADD-044", "No pixel high.", box((2, 1), (3, 3, 0, 4)), 2, BOXES),
    wrong("box-of-no-width", "LADD-044", "No pixel wide.", box((2, 1), (3, 3, 4, 0)), 2, BOXES),
    wrong("box-of-negative-place", "LADD-044", "-1 as uint16.", box((2, 1), (65535, 0, 2, 2)), 2, BOXES),
    wrong("box-of-a-golden-view-outside", "LADD-044", "A golden view's box.", box((0, 1), (0, 6, 4, 4)), 0, BOXES),
    all_wrong("boxes-as-corners", "LADD-044", "The far corner where height and width belong.", as_corners, BOXES),
    Case(
        "boxes-shifted",
        "Each view has the box of the one before: golden views show it.",
        BOXES,
        change=shifted,
        problems=(("LADD-042", at(SHARD, 0)), ("LADD-042", at(SHARD, 3))),
    ),
    Case(
        "flips-exchanged",
        "Views are mirrored that were not: golden views show it.",
        FLIPPED,
        change=mirror,
        problems=(("LADD-042", at(SHARD, 0)), ("LADD-042", at(SHARD, 3))),
    ),
    boxed("box-column-missing", "LADD-030", "No view_box.", lambda table: table.drop_columns("view_box")),
    boxed("flip-column-missing", "LADD-030", "No view_flip.", lambda table: table.drop_columns("view_flip")),
    boxed("null-box", "LADD-020", "A record without boxes.", null("view_box", 1), 1),
    boxed("null-flip", "LADD-020", "A record without flips.", null("view_flip", 2), 2),
    wrong("missing-view-with-a-label", "LADD-045", "A missing view's label is not uniform.", prefer, 1, PRUNED),
    wrong("present-view-called-missing", "LADD-045", "All views of a record are called missing.", deny, 2, PRUNED),
    wrong(
        "missing-view-with-a-label-in-q8",
        "LADD-045",
        "The same in q8.",
        prefer_in_q8,
        1,
        plan_of("q8", present=True),
    ),
    Case(
        "present-column-missing",
        "labels.present without view_present.",
        PRUNED,
        after=rewrite(lambda table: table.drop_columns("view_present")),
        problems=(("LADD-030", at(SHARD)),),
    ),
    Case(
        "null-present",
        "A null where there is neither a view nor none.",
        PRUNED,
        after=rewrite(null("view_present", 1)),
        problems=(("LADD-020", at(SHARD, 1)),),
    ),
]

WHOLE = [
    wrong("soft-sum", "LADD-039", "Probabilities that sum to 1.5.", put("soft_probs", (2, 0), 1.0), 2, SOFT),
    wrong("soft-negative", "LADD-039", "A probability below 0.", put("soft_probs", 2, (-0.5, 0.5, 1.0)), 2, SOFT),
    wrong("soft-nan", "LADD-031", "NaN.", put("soft_probs", (2, 1), np.nan), 2, SOFT),
    wrong("soft-infinite", "LADD-031", "Infinity.", put("soft_logits", (2, 1), np.inf), 2, Plan(soft="logits")),
    wrong("soft-targets-nan", "LADD-031", "NaN.", put("soft_targets", (2, 1), np.nan), 2, Plan(soft="targets")),
    Case(
        "soft-digest-wrong",
        "A digest of other soft labels.",
        SOFT,
        state=set_to("soft.digest", "0" * 64),
        problems=(("LADD-039", at(MANIFEST)),),
    ),
    Case(
        "soft-changed",
        "A soft label changed by a tool that keeps our key.",
        SOFT,
        after=rewrite(change_soft),
        problems=(("LADD-039", at(MANIFEST)), ("LADD-026", at(MANIFEST))),
    ),
    Case(
        "soft-space-unknown",
        "Soft labels of a kind that is not defined.",
        SOFT,
        state=set_to("soft.space", "odds"),
        problems=(("LADD-010", at(MANIFEST)),),
    ),
    soft_columns("soft-column-missing", "LADD-030", "No soft_probs.", lambda table: table.drop_columns("soft_probs")),
    soft_columns(
        "soft-column-of-another-kind",
        "LADD-030",
        "soft_logits where soft_probs is stated.",
        lambda table: table.rename_columns(["image", "label", "id", "soft_logits"]),
    ),
    soft_columns("soft-in-float64", "LADD-030", "Soft labels as float64.", wide),
    soft_columns("null-soft", "LADD-020", "A record without soft label.", null("soft_probs", 1), row=1),
]

CASES = [*VIEWS, *WHOLE]
