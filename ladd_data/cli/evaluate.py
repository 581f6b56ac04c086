"""`ladd evaluate`: a dataset tested by a protocol of networks, seeds and optimisers, beside controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ladd_data.cli.console import (
    AsJson,
    Bf16,
    ChannelsLast,
    Compiled,
    CudaGraphs,
    Device,
    LabelSetName,
    Overwrite,
    Source,
    choose_device,
    one_voice,
    print_json,
    progress_bar,
)
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.dataset import Dataset
    from ladd_data.evaluation.evaluate import Evaluation, Listener
    from ladd_data.evaluation.runs import Outcome, Run
    from ladd_data.recipe import Recipe
    from ladd_data.team import Ranks

PROTOCOL_HELP = "5-cae: ConvNet, VGG11, ResNet18, AlexNet, ViT, chosen by the images' size; 4-cae: no ViT; or names."
OPTIMIZERS_HELP = "Such as sgd,adam,adamw:0.001, each in place of the recipe's own, which keeps its numbers."


def evaluate(
    directory: Source,
    val: Annotated[str, typer.Option(help="Real test images: digits:test, a folder, an .npz, datasets:NAME:SPLIT.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; an interrupted one is continued.")],
    protocol: Annotated[str, typer.Option(help=PROTOCOL_HELP)] = "5-cae",
    seeds: Annotated[int, typer.Option(min=1, help="Students a network.")] = 5,
    optimizers: Annotated[str | None, typer.Option(help=OPTIMIZERS_HELP)] = None,
    recipe: Annotated[str | None, typer.Option(help="As of ladd train; the dataset's own where left out.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe; may be repeated.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a ConvNet's blocks; 128 by default.")] = None,
    labels: LabelSetName = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also without soft labels, and on random images of the same count.")
    ] = False,
    train: Annotated[str | None, typer.Option(help="With --controls: where to draw random images from.")] = None,
    labeler: Annotated[
        list[Path] | None, typer.Option(help="With --controls: what labelled DIR, to label random images too.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of each student, on a CPU.")] = None,
    data_root: Annotated[Path, typer.Option(help="Folder of torchvision's datasets.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch them.")] = False,
    bf16: Bf16 = False,
    channels_last: ChannelsLast = False,
    compiled: Compiled = False,
    cuda_graphs: CudaGraphs = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Train students of a protocol's networks and print their accuracy, mean and deviation, on real images.

    Finished students are kept: the same command goes on where it stopped. Under torchrun all ranks share the students.
    """
    from ladd_data.dataset import load
    from ladd_data.deploy.options import Options
    from ladd_data.evaluation.evaluate import evaluate as run
    from ladd_data.evaluation.plan import EvaluationPlan
    from ladd_data.sources import Reading
    from ladd_data.team import join_ranks

    with join_ranks() as ranks, one_voice(ranks):
        if download and ranks.count > 1:
            raise UsageError("--download: not by several processes at once. Fetch the data first, without torchrun.")
        dataset = load(directory, labels=labels)
        precision: Literal["float32", "bf16"] = "bf16" if bf16 else "float32"
        how = {"channels_last": channels_last, "compiled": compiled, "cuda_graphs": cuda_graphs}
        plan = EvaluationPlan(
            _recipe(dataset, recipe, settings or [], epochs),
            protocol,
            seeds,
            tuple(optimizers.split(",")) if optimizers else (),
            controls,
            width,
            threads,
            Options(precision=precision, **how),
        )
        with progress_bar("evaluating") as bar:
            evaluation = run(
                dataset,
                val,
                out,
                plan,
                train=train,
                labelers=labeler or [],
                device=choose_device(device),
                reading=Reading(data_root, download),
                overwrite=overwrite,
                ranks=ranks,
                listener=_listener(bar, quiet=json, ranks=ranks),
            )
        if ranks.leads:
            _print(evaluation, out, as_json=json)


def _recipe(dataset: Dataset, name: str | None, settings: list[str], epochs: int | None) -> Recipe:
    from ladd_data.deploy.resolve import find_recipe, override

    return override(
        find_recipe(name, dataset.manifest), [*settings, *([f"epochs={epochs}"] if epochs is not None else [])]
    )


def _listener(bar: Callable[[int, int], None], *, quiet: bool, ranks: Ranks) -> Listener:
    from ladd_data.evaluation.evaluate import Listener

    def on_start(missing: int, total: int) -> None:
        if ranks.leads and missing < total:
            typer.echo(f"{total - missing} of {total} students are finished already", err=True)

    def on_run(done: int, total: int, run: Run, outcome: Outcome) -> None:
        bar(done, total)
        if not quiet:
            typer.echo(f"{run.name}: accuracy {outcome.accuracy:.2%}  ({outcome.seconds:.1f} s)")

    return Listener(on_start, on_run)


def _print(evaluation: Evaluation, out: Path, *, as_json: bool) -> None:
    from ladd_data.evaluation.write import make_document

    if as_json:
        print_json(make_document(evaluation.facts, evaluation.runs, evaluation.findings))
        return
    typer.echo(f"\n{evaluation.table()}\n")
    for note in evaluation.notes:
        typer.echo(note, err=True)
    typer.echo(f"wrote {out}")
