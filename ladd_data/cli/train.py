"""`ladd train`: students trained on a dataset, tested on real images, seed by seed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ladd_data.cli.console import AsJson, Device, LabelSetName, choose_device, print_json, progress_bar
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.dataset import Dataset
    from ladd_data.deploy.train import Results, SeedResult
    from ladd_data.manifest import Network


def train(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset to train on.")],
    val: Annotated[str, typer.Option(help="Real test images: digits:test, a folder, an .npz, datasets:NAME:SPLIT.")],
    model: Annotated[
        str, typer.Option(help="As --arch of ladd train-labeler, module:factory excepted.")
    ] = "convnet-d3",
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a ConvNet's blocks; 128 by default.")] = None,
    recipe: Annotated[
        Literal["ladd", "hard-labels"],
        typer.Option(help="ladd: Eq. 5; hard-labels: the baseline without dense labels."),
    ] = "ladd",
    view_reduction: Annotated[Literal["sum", "mean"], typer.Option(help="sum is Eq. 5.")] = "sum",
    seeds: Annotated[int, typer.Option(min=1, help="How many students.")] = 5,
    epochs: Annotated[int, typer.Option(min=1)] = 1000,
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    lr: Annotated[float, typer.Option(help="The sum over views wants a smaller one than hard labels alone.")] = 0.001,
    momentum: Annotated[float, typer.Option(min=0, max=0.999)] = 0.9,
    weight_decay: Annotated[float, typer.Option(min=0)] = 5e-4,
    schedule: Annotated[Literal["warmup-cosine", "cosine", "constant"], typer.Option()] = "warmup-cosine",
    views_per_pass: Annotated[
        int | None, typer.Option(min=1, help="Views of an image per forward pass; all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also write plan and results to this JSON file.")
    ] = None,
    device: Device = "auto",
    labels: LabelSetName = None,
    json: AsJson = False,
) -> None:
    """Train students on a distilled dataset and print their accuracy on real images."""
    from ladd_data.dataset import load
    from ladd_data.deploy.train import TrainingPlan, train_students
    from ladd_data.files import canonical_json, write_atomically
    from ladd_data.sources import load_images, match_classes

    if not lr > 0:
        raise UsageError(f"--lr {lr}: expected more than 0.")
    dataset = load(directory, labels=labels)
    images = dataset.manifest.images
    plan = TrainingPlan(
        loss=recipe,
        view_reduction=view_reduction,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        views_per_pass=views_per_pass,
    )
    real = match_classes(load_images(val, images.height, images.channels), dataset.manifest.classes)

    def on_seed(result: SeedResult) -> None:
        if not json:
            typer.echo(f"seed {result.seed}: accuracy {result.accuracy:.2%}  ({result.seconds:.1f} s)")

    with progress_bar("training") as bar:
        results = train_students(
            dataset,
            _network(dataset, model, width),
            plan,
            real,
            seeds,
            device=choose_device(device),
            on_step=lambda seed, step, steps: bar(seed * steps + step, seeds * steps),
            on_seed=on_seed,
        )
    if out is not None:
        write_atomically(out, canonical_json(_document(results)))
    _print(results, json)


def _network(dataset: Dataset, name: str, width: int | None) -> Network:
    from ladd_data.models import describe_network

    images = dataset.manifest.images
    if images.height != images.width:
        raise UsageError(f"the dataset has {images.width}x{images.height} images; networks here take squares.")
    return describe_network(
        name, width=width, classes=len(dataset.classes), channels=images.channels, size=images.height
    )


def _print(results: Results, as_json: bool) -> None:
    if as_json:
        print_json(_document(results))
        return
    typer.echo(
        f"{results.plan.loss}: {100 * results.mean:.2f} +- {100 * results.std:.2f} % over {len(results.seeds)} seeds, "
        f"{results.val_images} images of {results.val}"
    )


def _document(results: Results) -> dict[str, object]:
    return {
        "dataset": results.dataset,
        "network": results.network.model_dump(mode="json"),
        "plan": results.plan.model_dump(mode="json"),
        "val": results.val,
        "val_images": results.val_images,
        "seeds": [asdict(result) for result in results.seeds],
        "mean": results.mean,
        "std": results.std,
        "libraries": results.libraries,
    }
