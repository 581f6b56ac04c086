"""`ladd train-labeler`: a network, trained from scratch on real images, that will make soft labels."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.console import AsJson, Device, Overwrite, choose_device, print_json, progress_bar
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ladd_data.labeling.training import Keep
    from ladd_data.manifest import Classes, Network, Normalization
    from ladd_data.sources import ImageSet

SOURCE_HELP = "Real images: digits:train, a folder, an .npz, datasets:NAME:SPLIT, torchvision:NAME:SPLIT."
ARCH_HELP = (
    "convnet-d3 (32 px), -d4 (64), -d5 (128), -d6; resnet18, alexnet, vgg11, vgg11-cifar, vit, vit-cifar; "
    "torchvision:NAME, timm:NAME, or your module:factory."
)
EPOCHS_HELP = "Which epochs to keep in OUT.epochs/: all, none, or a list such as 1,5,10."


def train_labeler(
    source: Annotated[str, typer.Option(help=SOURCE_HELP)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .safetensors file to write.")],
    dataset: Annotated[
        Path | None, typer.Option("--for", help="Take size, classes and normalisation from this dataset.")
    ] = None,
    val: Annotated[str | None, typer.Option(help="Real test images; else a tenth of the source is held out.")] = None,
    arch: Annotated[str, typer.Option(help=ARCH_HELP)] = "convnet-d5",
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a ConvNet's blocks; 128 by default.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--arch-option", help="NAME=VALUE for a module:factory; may be repeated.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Image side, where there is no --for.")] = None,
    normalization: Annotated[str | None, typer.Option(help="Preset or mean/std, where there is no --for.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="The paper labels with epoch 10.")] = 10,
    lr: Annotated[float, typer.Option(help="The paper gives 0.01 (Sec. 4.1) and 0.015 (Sec. 3.2).")] = 0.01,
    momentum: Annotated[float, typer.Option(min=0, max=0.999)] = 0.0,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1, help="In all; torchrun's processes share it.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    checkpoint_epochs: Annotated[str, typer.Option(help=EPOCHS_HELP)] = "all",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run, if there is one.")] = False,
    data_root: Annotated[Path, typer.Option(help="Folder of torchvision's datasets.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch them.")] = False,
    max_memory: Annotated[
        float | None, typer.Option(min=0, help="GiB for decoded pictures; half of the machine's by default.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Train a labeler (LADD, Sec. 3.2); the defaults are the paper's recipe. Runs under torchrun too."""
    from ladd_data.labeling.labeler import TrainingRecord
    from ladd_data.labeling.progress import state_path
    from ladd_data.labeling.ranks import speaks
    from ladd_data.labeling.training import LabelerPlan
    from ladd_data.labeling.training import train_labeler as run

    say = typer.echo if speaks() and not json else _say_nothing
    if not lr > 0:
        raise UsageError(f"--lr {lr}: expected more than 0.")
    keep = _keep(out, checkpoint_epochs, epochs, resume)
    _clear_the_way(out, overwrite, resume)
    classes, channels, side, stated = _frame(dataset, size, normalization)
    network = _network(arch, width, option or [], channels, side)
    load = _loader(side, channels, data_root, download, max_memory, say)
    images = load(source)
    classes = classes or _classes_of(images.classes, source)
    fields = {"epochs": epochs, "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "batch_size": batch_size}
    training = TrainingRecord.model_validate({"source": source, "seed": seed, **fields})
    network = network.model_copy(update={"classes": len(classes.names)})
    plan = LabelerPlan(network, classes, stated, training)
    if resume and state_path(out).is_file():
        say(f"going on from {state_path(out)}")
    with progress_bar("training") as on_batch:
        description = run(
            plan,
            _matched(images, classes),
            _matched(load(val), classes) if val else None,
            out,
            device=choose_device(device),
            keep=keep,
            on_epoch=lambda epoch, loss, share: say(
                f"epoch {epoch:3d}/{epochs}  loss {loss:.4f}  held-out accuracy {share:.2%}"
            ),
            on_batch=on_batch,
        )
    if json and speaks():
        print_json(description.model_dump(mode="json"))
    say(f"wrote {out}")


def _say_nothing(message: str) -> None:
    pass


def _clear_the_way(out: Path, overwrite: bool, resume: bool) -> None:
    """Refuse to write over a labeler, or over what an interrupted run left, unless told."""
    from ladd_data.labeling.progress import state_path

    if overwrite and resume:
        raise UsageError("--resume goes on with a run, --overwrite starts it anew: give one of them.")
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: exists already. Choose another -o, or add --overwrite to replace it.")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder. Make it, or choose another -o.")
    if overwrite:
        state_path(out).unlink(missing_ok=True)


def _keep(out: Path, text: str, epochs: int, resume: bool) -> Keep:
    from ladd_data.labeling.training import Keep

    if text == "none":
        return Keep(resume=resume)
    chosen = None
    if text != "all":
        numbers = text.split(",")
        if not all(number.isdecimal() and 1 <= int(number) <= epochs for number in numbers):
            raise UsageError(f"--checkpoint-epochs {text}: expected all, none, or numbers from 1 to {epochs}: 1,5,10.")
        chosen = frozenset(map(int, numbers))
    return Keep(out.with_suffix(".epochs"), chosen, resume)


def _loader(
    side: int, channels: int, root: Path, download: bool, max_memory: float | None, say: Callable[[str], None]
) -> Callable[[str], ImageSet]:
    """Return a function that reads a source, saying its size before and its progress meanwhile."""
    from ladd_data.labeling.ranks import under_torchrun
    from ladd_data.sources import Reading, load_images

    if download and under_torchrun():
        raise UsageError("--download: not by several processes at once. Fetch the data first, without torchrun.")

    def on_size(source: str, count: int, needed: int) -> None:
        say(f"{source}: {count} pictures of {channels}x{side}x{side}, {needed / 2**20:.1f} MiB in memory")

    def load(source: str) -> ImageSet:
        limit = None if max_memory is None else int(max_memory * 2**30)
        with progress_bar(f"reading {source}") as on_progress:
            reading = Reading(root, download, limit, on_size=on_size, on_progress=on_progress)
            return load_images(source, side, channels, reading)

    return load


def _frame(
    dataset: Path | None, size: int | None, normalization: str | None
) -> tuple[Classes | None, int, int, Normalization]:
    """Return (classes, channels, side, normalisation), from the dataset or from the options."""
    from ladd_data.presets import parse_normalization
    from ladd_data.shards.folder import open_folder

    if dataset is not None:
        if size is not None or normalization is not None:
            raise UsageError("--for gives size and normalisation: leave out --size and --normalization.")
        manifest = open_folder(dataset, verify=False).manifest
        images = manifest.images
        if images.normalization is None:
            raise UsageError(f"{dataset}: is ZCA-whitened; a labeler of natural pictures cannot serve it.")
        if images.height != images.width:
            raise UsageError(f"{dataset}: has {images.width}x{images.height} images; networks here take squares.")
        return manifest.classes, images.channels, images.height, images.normalization
    if size is None or normalization is None:
        raise UsageError("say what to train for: --for DIR, or --size PX with --normalization NAME.")
    stated = parse_normalization(normalization)
    return None, len(stated.mean), size, stated


def _classes_of(names: tuple[str, ...] | None, source: str) -> Classes:
    from ladd_data.manifest import Classes

    if names is None:
        raise UsageError(f'{source}: names no classes. Add an array "classes", or use --for DIR.')
    return Classes(names=names)


def _matched(images: ImageSet, classes: Classes) -> ImageSet:
    from ladd_data.sources import match_classes

    return match_classes(images, classes)


def _network(arch: str, width: int | None, pairs: list[str], channels: int, side: int) -> Network:
    """Return the network asked for, of two classes, proved to work before pictures are read.

    Values of --arch-option are JSON where they can be, else text.
    """
    from ladd_data.models import describe_network, sketch_network

    options: dict[str, bool | int | float | str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--arch-option {pair}: expected NAME=VALUE.")
        try:
            value = json_format.loads(text)
        except ValueError:
            value = text
        options[name] = value if isinstance(value, bool | int | float | str) else text
    spec = describe_network(arch, width=width, classes=2, channels=channels, size=side, options=options)
    sketch_network(spec, allow_code=True)
    return spec
