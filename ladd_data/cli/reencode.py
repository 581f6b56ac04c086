"""`ladd reencode`: the labels of a float32 parent, stored in fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladd_data.cli.codings import choose_coding, print_labels
from ladd_data.cli.console import AsJson, LabelSetName, Overwrite, Source, progress_bar
from ladd_data.errors import UsageError


def reencode(
    directory: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    profile: Annotated[str | None, typer.Option(help="default, paper or compact.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="In place of a profile: float32, float16, q8, q4 or topk.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Classes kept per view, for --encoding topk.")] = None,
    logz: Annotated[bool, typer.Option(help="With --encoding: keep what gives the logits back.")] = True,
    keep_views: Annotated[
        int | None, typer.Option(min=1, help="Prune: keep this many views of each image, mark the others missing.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --keep-views: of the draw.")] = 0,
    overwrite: Overwrite = False,
    labels: LabelSetName = None,
    json: AsJson = False,
) -> None:
    """Store a dataset's labels in fewer bytes, and print the error that costs."""
    from ladd_data.dataset import load
    from ladd_data.files import recover
    from ladd_data.manifest import count_views
    from ladd_data.reencode import Keep, reencode_dataset

    if profile is None and encoding is None:
        raise UsageError("say how to store the labels: --encoding NAME or --profile NAME.")
    recover(out)
    dataset = load(directory, labels=labels)
    views = count_views(dataset.view_spec) if dataset.view_spec else 1
    if keep_views is not None and keep_views >= views:
        raise UsageError(f"--keep-views {keep_views}: expected fewer than the {views} views there are.")
    keep = Keep(keep_views, seed) if keep_views is not None else None
    coding, name = choose_coding(dataset.folder, views, profile, encoding, top_k, logz)
    with progress_bar("re-encoding") as on_progress:
        manifest = reencode_dataset(
            dataset, coding, out, profile=name, keep=keep, overwrite=overwrite, on_progress=on_progress
        )
    if manifest.labels is not None:
        print_labels(out, manifest.labels, json=json)
