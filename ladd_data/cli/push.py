"""`ladd push`: a dataset goes to the Hub, in one commit and one tag."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ladd_data.cli.console import AsJson, print_json, progress_bar


def push(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset to publish; it is validated first.")],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="The dataset repository; created if need be.")],
    tag: Annotated[
        str | None, typer.Option(help="Name of this version, such as v1.0.0; data-DIGEST where left out. Never moves.")
    ] = None,
    revision: Annotated[str, typer.Option(help="The branch.")] = "main",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the data of a repository that holds another dataset.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print each operation; change nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub: files that differ, one commit, one tag.

    Login is huggingface_hub's: hf auth login, or HF_TOKEN. A push cut short is simply run again.
    """
    from ladd_data.hub import push as publish

    with progress_bar("uploading") as on_progress:
        done = publish(
            directory,
            repo,
            tag=tag,
            revision=revision,
            private=private,
            overwrite=overwrite,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    if json:
        print_json({**asdict(done), "dry_run": dry_run})
    elif not done.operations:
        typer.echo(f"{repo}: has all of this already, tag {done.tag}; nothing was done")
    else:
        for line in done.operations:
            typer.echo(f"would {line}" if dry_run else line)
        if not dry_run:
            typer.echo(f"{repo}: {done.uploaded} files uploaded, {done.kept} were there, commit {done.commit}")
            typer.echo(f'ladd.load("{repo}", revision="{done.tag}")')
