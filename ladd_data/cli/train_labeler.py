"""`ladd train-labeler`: a small network, trained from scratch on real images, that will make soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.console import AsJson, Device, Overwrite, choose_device, print_json
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.manifest import Classes, Network, Normalization


def train_labeler(
    source: Annotated[str, typer.Option(help="Real images: digits:train, a folder, an .npz, datasets:NAME:SPLIT.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .safetensors file to write.")],
    dataset: Annotated[
        Path | None, typer.Option("--for", help="Take size, classes and normalisation from this dataset.")
    ] = None,
    val: Annotated[str | None, typer.Option(help="Real test images; else a tenth of the source is held out.")] = None,
    arch: Annotated[
        str, typer.Option(help="convnet-d3 (32 px), convnet-d4 (64 px), convnet-d5 (128 px).")
    ] = "convnet-d5",
    width: Annotated[int, typer.Option(min=1, help="Channels of each block.")] = 128,
    size: Annotated[int | None, typer.Option(min=1, help="Image side, where there is no --for.")] = None,
    normalization: Annotated[str | None, typer.Option(help="Preset or mean/std, where there is no --for.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="The paper labels with epoch 10.")] = 10,
    lr: Annotated[float, typer.Option(help="The paper gives 0.01 (Sec. 4.1) and 0.015 (Sec. 3.2).")] = 0.01,
    momentum: Annotated[float, typer.Option(min=0, max=0.999)] = 0.0,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    checkpoints: Annotated[bool, typer.Option(help="Keep every epoch in OUT.epochs/.")] = True,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Train a labeler (LADD, Sec. 3.2); the defaults are the paper's recipe."""
    from ladd_data.labeling.labeler import TrainingRecord
    from ladd_data.labeling.training import LabelerPlan
    from ladd_data.labeling.training import train_labeler as run
    from ladd_data.sources import load_images, match_classes

    if out.exists() and not overwrite:
        raise UsageError(f"{out}: exists already. Choose another -o, or add --overwrite to replace it.")
    if not lr > 0:
        raise UsageError(f"--lr {lr}: expected more than 0.")
    classes, channels, side, stated = _frame(dataset, size, normalization)
    images = load_images(source, side, channels)
    classes = classes or _classes_of(images.classes, source)
    network = _network(arch, width, classes, channels, side)
    training = TrainingRecord(
        source=source,
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch_size,
        seed=seed,
    )
    held_out = match_classes(load_images(val, side, channels), classes) if val else None

    def on_epoch(epoch: int, loss: float, accuracy: float) -> None:
        if not json:
            typer.echo(f"epoch {epoch:3d}/{epochs}  loss {loss:.4f}  held-out accuracy {accuracy:.2%}")

    description = run(
        LabelerPlan(network, classes, stated, training),
        match_classes(images, classes),
        held_out,
        out,
        device=choose_device(device),
        checkpoints=out.with_suffix(".epochs") if checkpoints else None,
        on_epoch=on_epoch,
    )
    if json:
        print_json(description.model_dump(mode="json"))
    else:
        typer.echo(f"wrote {out}")


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


def _network(arch: str, width: int, classes: Classes, channels: int, side: int) -> Network:
    from ladd_data.manifest import Network

    fields = {"name": arch, "width": width, "classes": len(classes.names), "channels": channels, "size": side}
    return Network.model_validate(fields)
