"""docs/rates.md: bytes of labels against their error and students' accuracy, on real digits, by one command.

    python benchmarks/rates.py [--work rates-run] [--seeds 5] [--markdown docs/rates.md]

Makes the digits' dataset as benchmarks/study.py does, and calls what `ladd rates` calls. Students that are finished
are kept in --work and not trained again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch

from projector import keep_backbone, project
from study_numbers import subtract
from study_sets import CLASSES, SIZE, WIDTH, Labelling, Sets, use_one_thread

from ladd_data.dataset import load
from ladd_data.deploy.options import Options
from ladd_data.deploy.resolve import find_recipe, override
from ladd_data.models import describe_network
from ladd_data.rates.measure import Listener, Students, measure_rates
from ladd_data.rates.projected import Projected
from ladd_data.rates.results import Rates
from ladd_data.rates.rungs import HARD, default_rungs, read_rungs
from ladd_data.sources import match_classes

STEPS = 150
RANK, PROJECTOR_EPOCHS = 1, 20
"""Of the projector."""
RECIPE = (f"epochs={STEPS}", "optimizer.lr=0.01", "augmentation=none")
CALL = f"""ladd rates DIR -o OUT --val digits:test --width {WIDTH} --views-per-pass 25 \\
    --epochs {STEPS} --set optimizer.lr=0.01 --set augmentation=none"""
HEAD = """# The rate ladder: what labels cost, and what they are worth

Written by `python benchmarks/rates.py --markdown docs/rates.md`; its numbers: [rates/rates.json](rates/rates.json).
For a dataset of your own

```sh
{call}
```

makes the same table and plot; without `--val`, bytes and errors alone, in seconds. `--rung projector-NAME` sets a
projector of the dataset beside them.

**What was run.** {images} images of digits, one a class, {size} pixels a side, made by distribution matching (the
program in examples/), with 25 views each and float32 labels of a ConvNetD3 that was trained on 1,400 real digits.
`float32@5` keeps the labels of 5 of 25 views of each image, drawn by seed and record, and marks the others as
missing; `topk-3` keeps three classes and the mass of the others; `{projector}` stores no labels but a
[projector](projector.md) of rank {rank}, upon a small backbone that knows which way round digits are turned, trained
for {epochs} epochs on the same real digits; `hard` has no dense labels. {seeds} students a row, ConvNetD3 of width
{width}, {steps} steps with LADD's loss (the sum over the views that are there), tested on 397 other digits.

{how}
"""
LIMITS = """**What cannot be concluded.** Ten images, ten classes, small students, easy pictures. Of a thousand classes
a view's label has a hundred times the bytes, and errors weigh otherwise: run the command on your data. With LADD's
sum, fewer views also make a smaller loss of views beside that of whole images; a recipe that takes the mean
(`--set view_reduction=mean`) does not have that. A share of the stored bytes of so few records is Parquet's own; raw
bytes have none.
"""


def measure(work: Path, seeds: int) -> Rates:
    """Make the dataset, and climb down its ladder."""
    use_one_thread()
    work.mkdir(parents=True, exist_ok=True)
    sets = Sets(work / "sets")
    (work / "sets").mkdir(exist_ok=True)
    folder = sets.labelled("dm", 1, Labelling())
    dataset, backbone = load(folder), keep_backbone(work / "backbone.safetensors", sets)
    project(folder, sets, backbone, RANK, PROJECTOR_EPOCHS)
    online = Projected(folder, f"rank-{RANK}", backbone)
    network = describe_network("convnet-d3", classes=CLASSES, channels=3, size=SIZE, width=WIDTH)
    recipe = override(find_recipe(None, dataset.manifest), list(RECIPE))
    val = match_classes(sets.test, dataset.manifest.classes)
    students = Students(network, recipe, val, seeds, Options(views_per_pass=25))
    names = [*default_rungs(CLASSES, 25), online.name, HARD]
    return measure_rates(
        dataset,
        work / "rates",
        read_rungs(names, CLASSES, 25, others={online.name: online}),
        students=students,
        listener=Listener(on_point=lambda point: print(point.name, point.accuracy, file=sys.stderr)),
    )


def make_page(rates: Rates, seeds: int) -> str:
    """Return the page."""
    pruned = "The labels that pruning leaves are as exact as before: what it costs shows in accuracy alone."
    how = textwrap.fill(f"**How to read it.** {rates.document()['how_to_read']} {pruned}", 118)
    said = {"call": CALL, "images": rates.facts["images"], "size": SIZE, "seeds": seeds, "width": WIDTH, "steps": STEPS}
    said |= {"projector": f"projector-rank-{RANK}", "rank": RANK, "epochs": PROJECTOR_EPOCHS}
    lines = [HEAD.format(**said, how=how), rates.table(), "", "![Bytes, error and accuracy](rates/rates.svg)", ""]
    return "\n".join([*lines, *list_findings(rates), "", LIMITS])


def list_findings(rates: Rates) -> list[str]:
    """Return what each row's students lose against the first's, and whether as many students can show it."""
    first, *others = rates.points
    found = []
    for point in others:
        ours, theirs = ([100 * value for value in one.accuracies] for one in (point, first))
        fewer = f", {first.stored / point.stored:.1f} times fewer bytes" if point.stored else ""
        if point.stored > first.stored:
            fewer = f", {point.stored / first.stored:.1f} times the bytes"
        found.append(f"- **{point.name}** less {first.name}: {subtract(ours, theirs).text} points{fewer}.")
    return found


def main() -> None:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description="The ladder of docs/rates.md.")
    parser.add_argument("--work", type=Path, default=Path("rates-run"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rates = measure(options.work, options.seeds)
    print(rates.table())
    if options.markdown:
        beside = options.markdown.parent / "rates"
        beside.mkdir(exist_ok=True)
        for name in ("rates.json", "rates.svg"):
            shutil.copyfile(options.work / "rates" / name, beside / name)
        options.markdown.write_text(make_page(rates, options.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
