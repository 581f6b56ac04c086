"""docs/study.md of the results of benchmarks/study.py: what was run, tables, plots, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import study_claims as claims
from study_cells import BATCH, SEEDS, STEPS
from study_numbers import Table
from study_plots import PLOTS
from study_sets import SIZE, WIDTH

HEAD = f"""# A study: what labels, losses and encodings do

Written by `python benchmarks/study.py --markdown docs/study.md`, every sentence with a number in it included.
All numbers are in [study/results.json](study/results.json). `python benchmarks/study.py --check --work NEW-FOLDER`
trains one student of each cell again and tells which have the same accuracy to the last bit, and whether each table's
cells stand in the same order by them; with `--students {SEEDS}`, all.

**What was run.** Small students, ConvNetD3 of width {WIDTH}, learn from a few pictures of handwritten digits and are
tested on 397 real ones. The pictures are 1, 10 or 50 a class (IPC), {SIZE} pixels a side, made in three ways of 1,400
other digits: **random** draws them, **k-means** takes the centres it finds in each class (for IPC 1, the class's
mean), **dm** is distribution matching, the program in examples/. Dense labels come from a labeler of the students' own
kind, trained on the same 1,400 digits for 10 epochs. Every student takes
{STEPS} steps of {BATCH} images with SGD at 0.01 (momentum 0.9, weight decay 5e-4, cosine to 0), unless said. No
augmentation. {SEEDS} students a number: **mean ± standard deviation**.

**How to read differences.** Students of the same seed begin with the same weights, so differences are taken seed by
seed: mean ± standard error. They are called clear where a paired t-test at 95 % finds them; of many comparisons,
one in twenty is then clear by chance.

**What cannot be concluded.** Digits of 8 × 8 pixels are easy, students and labelers are tiny, runs are short, and
the rate is one for all. What shows here shows that the machinery works and that a claim can be seen at this
scale; what does not show here may well show on ImageNet.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its title, what was done, the head of its first column, and what its numbers say."""

    title: str
    text: str
    corner: str
    say: Callable[[dict[str, Any]], list[str]]


SECTIONS = {
    "ladd": Section(
        "Hard labels against LADD, at equal steps",
        "Hard labels: the cross-entropy of whole images. LADD: that plus the sum over 25 views of the cross-entropy "
        "with their dense labels (Eq. 5). A step of LADD sees 26 times the pictures; *views, hard* in the next section "
        "sees 25 times as many without dense labels.",
        "images",
        claims.say_ladd,
    ),
    "table6": Section(
        "Full images and views, hard and soft labels (LADD, Table 6)",
        "dm, IPC 1. The soft label of a whole image is the mean of its views' labels. In brackets, what the paper's "
        "table has on ImageNette, in points.",
        "trained on",
        claims.say_table6,
    ),
    "losses": Section(
        "Losses under three optimisers (GIFT, Table 5)",
        "dm, IPC 1, whole images with one soft label each, which the labeler gave them. Adam and AdamW at 0.001. "
        "KL at T = 20 is SRe2L's, without the factor T². GIFT is the paper's form, on raw logits. MSE is of logits.",
        "loss",
        claims.say_losses,
    ),
    "views": Section(
        "Number and size of views (LADD, Table S1)",
        "dm, IPC 1. N × N views of R of the image's side. The paper has N = 9 as well, which is left out for its cost, "
        "and writes 88.5 % for its largest R; 7/8 stands for it here.",
        "R",
        claims.say_views,
    ),
    "labeler": Section(
        "How long the labeler is trained (LADD, Fig. 5)",
        "dm, IPC 1: one run of the labeler, whose weights after some epochs make the labels. Certainty is measured on "
        "the labels of the distilled views.",
        "epoch",
        claims.say_labeler,
    ),
    "encodings": Section(
        "Encodings against accuracy",
        "dm, IPC 1: the same labels, stored in fewer bytes. Total variation (TV) is the mean error of a stored label "
        "against float32, 0 to 1. Bytes are of the raw columns, with the 4 of logz where it is kept: not in top-k.",
        "encoding",
        claims.say_encodings,
    ),
}


def write_page(page: Path, results: dict[str, Any]) -> None:
    """Write the page and its plots."""
    for name, draw in PLOTS.items():
        draw(results, page.parent / "study" / f"{name}.svg")
    page.write_text(make_page(results), encoding="utf-8")


def make_page(results: dict[str, Any]) -> str:
    """Return the page: a pure function of the results."""
    parts = [HEAD]
    for name, section in SECTIONS.items():
        said = "\n".join(f"- {line}" for line in section.say(results))
        parts.append(
            f"## {section.title}\n\n{section.text}\n\n`python benchmarks/study.py --only {name}`\n\n"
            f"{_table(name, section, results)}\n\n![{section.title}](study/{name}.svg)\n\n{said}\n"
        )
    versions = ", ".join(f"{name} {version}" for name, version in results["libraries"].items())
    parts.append(f"Measured on {results['machine']}; {versions}.\n")
    return "\n".join(parts)


def _table(name: str, section: Section, results: dict[str, Any]) -> str:
    table = Table(results, name)
    if name == "labeler":
        return _with_columns(
            table,
            ("epoch", "labeler's own accuracy", "mean highest probability", "entropy, nats", "students' accuracy"),
            [
                (f"{100 * one['accuracy']:.1f}", f"{one['top']:.2f}", f"{one['entropy']:.2f}")
                for one in results["labelers"]
            ],
        )
    if name == "encodings":
        return _with_columns(
            table,
            ("encoding", "bytes a view", "mean TV", "students' accuracy"),
            [(f"{one['bytes_per_view']:.0f}", f"{one['mean_tv']:.1g}") for one in results["encodings"]],
        )
    return table.markdown(section.corner)


def _with_columns(table: Table, head: tuple[str, ...], facts: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join([row, *own, table.say(row)])} |" for row, own in zip(table.rows, facts, strict=True)]
    return "\n".join(lines)
