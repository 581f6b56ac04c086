"""`ladd view`: a dataset to look at: a report in one HTML file, or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladd_data.cli.console import LabelSetName, Source
from ladd_data.errors import UsageError


def view(
    directory: Source,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The file to write: report.html, or picture.png for papers and cards.")
    ],
    count: Annotated[int, typer.Option(min=1, max=16, help="How many images a picture shows.")] = 4,
    labels: LabelSetName = None,
) -> None:
    """Write a report that any browser opens (.html), or a picture of a few images (.png).

    The report is one file that needs no network: what the dataset is, what vouches for it, how to load it,
    images by class with the label of each view, what it costs. The dataset is validated first. A picture
    shows images of different classes, their views and the label of each view.
    """
    kind = out.suffix.lower()
    if kind in (".html", ".htm"):
        from ladd_data.remote import find_folder
        from ladd_data.report.page import write_report

        written = write_report(find_folder(directory, labels=labels)[0], out, labels)
        some = "all" if written.shown == written.images else f"{written.shown} of {written.images}"
        typer.echo(f"wrote {out} ({some} images, {out.stat().st_size / 1e6:.1f} MB): open it in a browser")
        return
    if kind != ".png":
        raise UsageError(f"{out}: expected a name that ends in .html, for a report, or in .png, for a picture.")
    from ladd_data.dataset import load
    from ladd_data.report.picture import draw_dataset

    draw_dataset(load(directory, labels=labels), out, count)
    typer.echo(f"wrote {out}")
