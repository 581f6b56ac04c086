"""`ladd label`: every view of every image gets a soft label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.codings import choose_coding
from ladd_data.cli.console import AsJson, Device, Overwrite, choose_device, print_json, progress_bar
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.manifest import Boxes, Full, Grid


def label(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset to label.")],
    labeler: Annotated[Path, typer.Option(help="The .safetensors file of ladd train-labeler.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; may be DIR with --overwrite.")],
    grid: Annotated[int, typer.Option(min=1, max=64, help="Views per axis.")] = 5,
    ratio: Annotated[str, typer.Option(help="Side of a view as an exact fraction of the image's.")] = "5/8",
    full: Annotated[bool, typer.Option("--full", help="One view, the whole image, in place of a grid.")] = False,
    boxes: Annotated[int | None, typer.Option(min=1, help="Random crops per image, in place of a grid.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="With --boxes: mirror half of them.")] = False,
    box_seed: Annotated[int, typer.Option(min=0, help="With --boxes: of the draw.")] = 0,
    profile: Annotated[
        str | None,
        typer.Option(help="default: float16 log-probabilities + logz; paper: float32 probabilities; compact."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="In place of a profile: float32, float16, q8, q4 or topk.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Classes kept per view, for --encoding topk.")] = None,
    logz: Annotated[bool, typer.Option(help="With --encoding: keep what gives the logits back.")] = True,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Label the views of a dataset (LADD, Algorithm 1) and write the labelled dataset."""
    from ladd_data.dataset import load
    from ladd_data.files import recover
    from ladd_data.labeling.label import BoxDraw, LabelPlan, label_dataset
    from ladd_data.labeling.labeler import load_labeler
    from ladd_data.manifest import count_views

    chosen = choose_device(device)
    views = _choose_views(grid, ratio, full, boxes, flip)
    recover(out)
    dataset = load(directory)
    coding, name = choose_coding(dataset.folder, count_views(views), profile, encoding, top_k, logz)
    plan = LabelPlan(load_labeler(labeler, chosen), views, coding, chosen, name, BoxDraw(seed=box_seed))
    with progress_bar("labeling") as on_progress:
        manifest = label_dataset(dataset, plan, out, overwrite=overwrite, on_progress=on_progress)
    if manifest.labels is None:
        return
    if json:
        print_json({"written": str(out), "labels": manifest.labels.model_dump(mode="json")})
        return
    certificate = manifest.labels.certificate
    typer.echo(f"{len(dataset)} images x {manifest.labels.count} views labelled on {chosen}")
    typer.echo(f"storage error: total variation {certificate.mean_tv:.2g} mean, {certificate.max_tv:.2g} max")
    typer.echo(f"wrote {out}")


def _choose_views(grid: int, ratio: str, full: bool, boxes: int | None, flip: bool) -> Grid | Full | Boxes:
    from ladd_data.manifest import Boxes, Full
    from ladd_data.views.geometry import grid as make_grid

    if full and boxes is not None:
        raise UsageError("--full and --boxes exclude each other: give one.")
    if flip and boxes is None:
        raise UsageError("--flip goes with --boxes.")
    if boxes is not None:
        return Boxes(count=boxes, flip=flip)
    return Full() if full else make_grid(grid, ratio)
