"""`ladd train`: students trained on a dataset by a recipe, tested on real images, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.console import (
    SOURCE_HELP,
    AsJson,
    Device,
    LabelSetName,
    Overwrite,
    choose_device,
    one_voice,
    print_json,
    progress_bar,
)
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.dataset import Dataset
    from ladd_data.deploy.options import Options
    from ladd_data.deploy.results import Results, SeedResult
    from ladd_data.manifest import Network
    from ladd_data.recipe import Recipe
    from ladd_data.sources import ImageSet

SET_HELP = "FIELD=VALUE of the recipe, such as optimizer.lr=0.01 or augmentation=none; may be repeated."
Setting = Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)]


def _list_recipes(wanted: bool) -> None:
    if wanted:
        from ladd_data.recipes import RECIPES, SOURCES

        for name, recipe in RECIPES.items():
            typer.echo(f"{name:12} {recipe.loss:11} {SOURCES[name]}")
        raise typer.Exit


def train(
    directory: Annotated[str | None, typer.Argument(metavar="DIR", help=SOURCE_HELP)] = None,
    val: Annotated[
        str | None, typer.Option(help="Real test images: digits:test, a folder, an .npz, datasets:NAME:SPLIT.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="As --arch of ladd train-labeler, module:factory excepted.")
    ] = "convnet-d3",
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a ConvNet's blocks; 128 by default.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="By name, see --list-recipes; the dataset's own by default.")
    ] = None,
    settings: Setting = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Short for --set epochs=N.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Short for --set batch_size=N.")] = None,
    lr: Annotated[float | None, typer.Option(help="Short for --set optimizer.lr=X.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many students; torchrun's processes share them.")] = 5,
    full: Annotated[bool | None, typer.Option(help="Train on full images; else as the loss does.")] = None,
    sub: Annotated[bool | None, typer.Option(help="Train on views; else as the loss does.")] = None,
    hard: Annotated[bool | None, typer.Option(help="Train against hard labels; else as the loss does.")] = None,
    soft: Annotated[bool | None, typer.Option(help="Train against soft labels; else as the loss does.")] = None,
    views_per_pass: Annotated[
        int | None, typer.Option(min=1, help="Views of an image per forward pass; by default 1 on a CPU.")
    ] = None,
    views_per_step: Annotated[
        int | None, typer.Option(min=1, help="Views of an image per step, drawn anew each step; all by default.")
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Run the network under autocast to bfloat16.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Compute in memory format NHWC.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="JSON file of what ran and its results; it resumes a run.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    show: Annotated[bool, typer.Option("--print", help="Print the recipe as JSON and stop.")] = False,
    labels: LabelSetName = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="Of a projector's backbone; else from the label set, or the Hub.")
    ] = None,
    json: AsJson = False,
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", callback=_list_recipes, is_eager=True, help="List recipes and stop.")
    ] = False,
) -> None:
    """Train students on a distilled dataset and print their accuracy on real images. Runs under torchrun too."""
    from ladd_data.deploy.options import Options

    short = {"epochs": epochs, "batch_size": batch_size, "optimizer.lr": lr, "views_per_step": views_per_step}
    changes = [*(f"{name}={value}" for name, value in short.items() if value is not None), *(settings or [])]
    if show:
        print_json(_recipe(directory, recipe, changes).model_dump(mode="json"))
        return
    if directory is None or val is None:
        raise UsageError("say what to train on and what to test on: ladd train DIR --val SOURCE.")
    options = Options(
        full=full,
        sub=sub,
        hard=hard,
        soft=soft,
        views_per_pass=views_per_pass,
        precision="bf16" if bf16 else "float32",
        channels_last=channels_last,
        compiled=compiled,
    )
    chosen = labels, backbone_weights
    job = _Job(directory, *chosen, val, model, width, recipe, changes, seeds, options, out, overwrite, device, json)
    job.run()


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for."""

    directory: str
    labels: str | None
    backbone: Path | None
    val: str
    model: str
    width: int | None
    recipe: str | None
    changes: list[str]
    seeds: int
    options: Options
    out: Path | None
    overwrite: bool
    device: str
    json: bool

    def run(self) -> None:
        """Train, and say what came of it."""
        from ladd_data.deploy.keep import Keep
        from ladd_data.deploy.train import train_students
        from ladd_data.team import join_ranks

        with join_ranks() as ranks, one_voice(ranks), progress_bar("training") as bar:
            dataset, images = open_both(self.directory, self.val, self.labels, self.backbone)
            share = -(-self.seeds // ranks.count)
            begun: set[int] = set()

            def on_step(seed: int, step: int, steps: int) -> None:
                begun.add(seed)
                bar((len(begun) - 1) * steps + step, share * steps)

            results = train_students(
                dataset,
                describe_student(dataset, self.model, self.width),
                choose_recipe(dataset, self.recipe, self.changes),
                images,
                self.seeds,
                options=self.options,
                device=choose_device(self.device),
                keep=Keep(self.out, self.overwrite) if self.out is not None else None,
                on_step=on_step,
                on_seed=_say_nothing if self.json or not ranks.leads else _say_seed,
            )
        if ranks.leads:
            _print(results, self.json)


def open_both(
    directory: str, val: str, labels: str | None = None, backbone: Path | None = None
) -> tuple[Dataset, ImageSet]:
    """Open a dataset and the real images that its students are tested on, numbered as its classes are.

    Where `labels` is a projector, its network is built and labels what the students are shown.
    """
    from ladd_data.sources import load_images, match_classes

    dataset = _open(directory, labels, backbone)
    images = dataset.manifest.images
    _require_square(dataset)
    return dataset, match_classes(load_images(val, images.height, images.channels), dataset.manifest.classes)


def _open(directory: str, labels: str | None, backbone: Path | None) -> Dataset:
    from ladd_data.dataset import load
    from ladd_data.remote import find_folder
    from ladd_data.shards.projectors import list_projectors

    if labels is not None and labels in list_projectors(find_folder(directory, None, labels)[0]):
        from ladd_data.projector.online import load_online

        return load_online(directory, labels, backbone=backbone)
    if backbone is not None:
        raise UsageError("--backbone-weights goes with --labels NAME of a projector.")
    return load(directory, labels=labels)


def choose_recipe(dataset: Dataset, name: str | None, changes: list[str]) -> Recipe:
    """Return the recipe of that name, or the dataset's own, with its fields changed."""
    from ladd_data.deploy.resolve import find_recipe, override

    return override(find_recipe(name, dataset.manifest), changes)


def describe_student(dataset: Dataset, name: str, width: int | None) -> Network:
    """Return the network of that name for a dataset's images and classes."""
    from ladd_data.models import describe_network

    _require_square(dataset)
    images = dataset.manifest.images
    return describe_network(
        name, width=width, classes=len(dataset.classes), channels=images.channels, size=images.height
    )


def _require_square(dataset: Dataset) -> None:
    images = dataset.manifest.images
    if images.height != images.width:
        raise UsageError(f"the dataset has {images.width}x{images.height} images; networks here take squares.")


def _recipe(directory: str | None, name: str | None, changes: list[str]) -> Recipe:
    from ladd_data.dataset import load
    from ladd_data.deploy.resolve import find_recipe, override

    manifest = load(directory, verify=False).manifest if directory is not None else None
    return override(find_recipe(name, manifest), changes)


def _say_nothing(result: SeedResult) -> None:
    pass


def _say_seed(result: SeedResult) -> None:
    typer.echo(f"seed {result.seed}: accuracy {result.accuracy:.2%}  ({result.seconds:.1f} s)")


def _print(results: Results, as_json: bool) -> None:
    if as_json:
        print_json(results.document())
        return
    run = results.run
    typer.echo(f"loss: {run.formula}")
    typer.echo(
        f"{run.recipe.loss}: {100 * results.mean:.2f} +- {100 * results.std:.2f} % over {len(results.seeds)} seeds, "
        f"{run.val_images} images of {run.val}"
    )
