"""`ladd view`: a picture of a few images with their views and dense labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladd_data.errors import UsageError


def view(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .png file to write.")],
    count: Annotated[int, typer.Option(min=1, max=16, help="How many images.")] = 4,
) -> None:
    """Draw a few images, one per class, with their views and the label of each view."""
    from ladd_data.dataset import load
    from ladd_data.report.picture import draw_dataset

    if out.suffix.lower() != ".png":
        raise UsageError(f"{out}: expected a name that ends in .png.")
    draw_dataset(load(directory), out, count)
    typer.echo(f"wrote {out}")
