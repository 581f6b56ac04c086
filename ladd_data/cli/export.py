"""`ladd export`: the same records in another edition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladd_data.cli.codings import say_left_behind
from ladd_data.cli.console import AsJson, LabelSetName, Overwrite, Source, print_json, progress_bar
from ladd_data.types import Edition


def export(
    directory: Source,
    to: Annotated[
        Edition,
        typer.Option(help="parquet: for the Hub; webdataset: tar, for streaming; arrow: raw, memory-mapped."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; may be DIR with --overwrite.")],
    overwrite: Overwrite = False,
    labels: LabelSetName = None,
    json: AsJson = False,
) -> None:
    """Write the same records as another edition; ids, digests and manifest stay as they are."""
    from ladd_data.dataset import load
    from ladd_data.export import export_dataset
    from ladd_data.files import recover

    recover(out)
    dataset = load(directory, labels=labels)
    with progress_bar("exporting") as on_progress:
        manifest = export_dataset(dataset, to, out, overwrite=overwrite, on_progress=on_progress)
    if labels is None:
        say_left_behind(directory)
    if json:
        print_json({"written": str(out), "edition": to, "records": len(dataset), "digest": manifest.digest})
    else:
        typer.echo(f"{out}: {len(dataset)} records as {to}, digest {manifest.digest[:16]}...")
