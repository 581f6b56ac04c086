"""`ladd rates`: what a dataset's labels cost and are worth in each way to store them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.console import (
    AsJson,
    Device,
    LabelSetName,
    Overwrite,
    Source,
    choose_device,
    print_json,
    progress_bar,
)
from ladd_data.cli.train import Setting, choose_recipe, describe_student, open_both
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.rates.measure import Students
    from ladd_data.rates.rungs import Rung

_RUNG = "One way: float32, float16, q8, q4, topk-K, with @N of N views, projector-NAME, or hard; may be repeated."


def rates(
    directory: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; an interrupted one is continued.")],
    rung: Annotated[list[str] | None, typer.Option(help=_RUNG)] = None,
    logz: Annotated[bool, typer.Option("--logz", help="Keep what gives the logits back.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of views that @N keeps.")] = 0,
    val: Annotated[
        str | None, typer.Option(help="Train students on each, and test them on these images, as ladd train does.")
    ] = None,
    model: Annotated[str, typer.Option(help="The students, as of ladd train.")] = "convnet-d3",
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a ConvNet's blocks; 128 by default.")] = None,
    recipe: Annotated[str | None, typer.Option(help="As of ladd train; the dataset's own where left out.")] = None,
    settings: Setting = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    views_per_pass: Annotated[int | None, typer.Option(min=1, help="As of ladd train.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Students of each way.")] = 5,
    device: Device = "auto",
    overwrite: Overwrite = False,
    labels: LabelSetName = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="Of a projector's backbone; else from the label set, or the Hub.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Store a dataset's labels in many ways, and print bytes, errors and, with --val, students' accuracy of each.

    Writes rates.json, rates.md and rates.svg; the dataset itself is only read. Finished students are kept: the same
    command goes on where it stopped.
    """
    from ladd_data.dataset import load
    from ladd_data.deploy.options import Options
    from ladd_data.rates.measure import Listener, Students, measure_rates
    from ladd_data.rates.plot import MISSING
    from ladd_data.rates.rungs import HARD, default_rungs, read_rungs

    students: Students | None = None
    if val is not None:
        dataset, images = open_both(directory, val, labels)
        short = {"epochs": epochs, "batch_size": batch_size}
        changes = [*(f"{name}={value}" for name, value in short.items() if value is not None), *(settings or [])]
        network, chosen = describe_student(dataset, model, width), choose_recipe(dataset, recipe, changes)
        options = Options(views_per_pass=views_per_pass)
        students = Students(network, chosen, images, seeds, options, choose_device(device))
    else:
        _refuse_students(width, recipe, settings, epochs, batch_size, views_per_pass)
        dataset = load(directory, labels=labels)
    views = dataset.manifest.labels.count if dataset.manifest.labels is not None else 1
    names = rung or [*default_rungs(len(dataset.classes), views), *([HARD] if students else [])]
    others = _find_projectors(directory, names, backbone_weights)
    rungs = read_rungs(names, len(dataset.classes), views, logz=logz, seed=seed, others=others)
    with progress_bar("students" if students else "rungs") as bar:
        begun: dict[tuple[str, int], int] = {}

        def on_step(name: str, seed: int, step: int, steps: int) -> None:
            begun.setdefault((name, seed), len(begun))
            bar(begun[name, seed] * steps + step, len(rungs) * seeds * steps)

        found = measure_rates(
            dataset, out, rungs, students=students, overwrite=overwrite, listener=Listener(on_step=on_step)
        )
    if json:
        print_json(found.document())
        return
    typer.echo(found.table())
    typer.echo(f"wrote {out / 'rates.svg'}" if (out / "rates.svg").is_file() else MISSING)


def _find_projectors(directory: str, names: list[str], backbone: Path | None) -> dict[str, Rung]:
    from ladd_data.rates.projected import PREFIX, Projected
    from ladd_data.remote import find_folder

    found: dict[str, Rung] = {}
    for name in names:
        if name.startswith(PREFIX):
            projector = name.removeprefix(PREFIX)
            found[name] = Projected(find_folder(directory, labels=projector)[0], projector, backbone)
    if backbone is not None and not found:
        raise UsageError(f"--backbone-weights goes with --rung {PREFIX}NAME.")
    return found


def _refuse_students(*given: object) -> None:
    if any(value is not None for value in given):
        raise UsageError("--width, --recipe, --set, --epochs, ... are of students: give --val, too.")
