"""`ladd pull`: a dataset comes from the Hub into a folder, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladd_data.cli.console import AsJson, Overwrite, print_json


def pull(
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="The dataset repository.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    revision: Annotated[str | None, typer.Option(help="A tag, branch or commit; the head of main.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="Only this label set, of those there are; may be repeated; default: none of them."),
    ] = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Download a dataset of the Hub: the bytes that were pushed, verified; the folder appears whole or not at all.

    All its label sets come along. "ladd labels USER/REPO" lists them before anything is downloaded.
    """
    from ladd_data.files import recover
    from ladd_data.hub import pull as download

    recover(directory)
    manifest = download(repo, directory, revision=revision, labels=labels, overwrite=overwrite)
    if json:
        print_json({"written": str(directory), "records": manifest.images.count, "digest": manifest.digest})
    else:
        typer.echo(f"{directory}: {manifest.images.count} records, digest {manifest.digest[:16]}..., verified")
