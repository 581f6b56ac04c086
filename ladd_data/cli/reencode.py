"""`ladd reencode`: labels that were stored without loss, stored in fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.codings import choose_coding, choose_target, print_labels, say_left_behind
from ladd_data.cli.console import AsJson, LabelSetName, Overwrite, Source, progress_bar
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.dataset import Dataset
    from ladd_data.manifest import Coding
    from ladd_data.reencode import Keep


def reencode(
    directory: Source,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder to write: a copy of DIR.")] = None,
    as_: Annotated[
        str | None, typer.Option("--as", help="In place of -o: add the labels to DIR as a label set of this name.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="default, paper or compact.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="In place of a profile: float32, float16, q8, q4 or topk.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Classes kept per view, for --encoding topk.")] = None,
    logz: Annotated[bool, typer.Option(help="With --encoding: keep what gives the logits back.")] = True,
    keep_views: Annotated[
        int | None,
        typer.Option(min=1, help="Prune: keep this many views of each image; view_present says which."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --keep-views: of the draw.")] = 0,
    overwrite: Overwrite = False,
    labels: LabelSetName = None,
    json: AsJson = False,
) -> None:
    """Store a dataset's labels in fewer bytes, and print the error that costs.

    A copy of the dataset (-o) in which these labels alone are changed, or one more label set of it (--as). With
    --labels they are those of a label set. --keep-views without an encoding stores what is left as it was.
    """
    from ladd_data.dataset import load
    from ladd_data.files import recover
    from ladd_data.reencode import reencode_dataset, reencode_set

    if profile is None and encoding is None and keep_views is None:
        raise UsageError("say how to store the labels: --encoding NAME, --profile NAME or --keep-views N.")
    target = choose_target(directory, out, as_)
    if out is not None:
        recover(out)
    dataset = load(directory, labels=labels)
    keep = _choose_keep(dataset, keep_views, seed)
    coding, name = _choose_coding(dataset, profile, encoding, top_k, logz)
    with progress_bar("re-encoding") as on_progress:
        if as_:
            manifest = reencode_set(
                dataset, as_, coding, profile=name, keep=keep, overwrite=overwrite, on_progress=on_progress
            )
        else:
            manifest = reencode_dataset(
                dataset, coding, target, profile=name, keep=keep, overwrite=overwrite, on_progress=on_progress
            )
    if not as_:
        say_left_behind(directory, labels)
    if manifest.labels is not None:
        print_labels(target, manifest.labels, json=json, kept=keep)


def _choose_keep(dataset: Dataset, views: int | None, seed: int) -> Keep | None:
    from ladd_data.manifest import count_views
    from ladd_data.reencode import Keep

    if views is None:
        return None
    there = count_views(dataset.view_spec) if dataset.view_spec else 1
    if views >= there:
        raise UsageError(f"--keep-views {views}: expected fewer than the {there} views there are.")
    return Keep(views, seed)


def _choose_coding(
    dataset: Dataset, profile: str | None, encoding: str | None, top_k: int | None, logz: bool
) -> tuple[Coding, str | None]:
    labels = dataset.manifest.labels
    if profile is None and encoding is None and labels is not None:
        if top_k is not None or not logz:
            raise UsageError("--top-k and --no-logz go with --encoding.")
        return labels.coding, labels.profile
    views = labels.count if labels is not None else 1
    return choose_coding(dataset.folder, views, profile, encoding, top_k, logz)
