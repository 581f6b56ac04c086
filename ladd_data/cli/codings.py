"""What `label` and `reencode` share: turning --profile or --encoding into a coding, and printing what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ladd_data.cli.console import print_json
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.manifest import Coding, Labels
    from ladd_data.shards.folder import Folder


def choose_coding(
    folder: Folder, views: int, profile: str | None, encoding: str | None, top_k: int | None, logz: bool
) -> tuple[Coding, str | None]:
    """Return the coding asked for, and the profile's name if it was asked for by profile.

    Raises:
        UsageError: both were given, a name is not known, or --top-k does not fit.
    """
    from ladd_data.encodings.profiles import Budget, coding_of_encoding, coding_of_profile

    classes = len(folder.layout.classes)
    if encoding is not None:
        if profile is not None:
            raise UsageError("--profile and --encoding exclude each other: give one.")
        return coding_of_encoding(encoding, classes, k=top_k, logz=logz), None
    if top_k is not None or not logz:
        raise UsageError("--top-k and --no-logz go with --encoding, not with a profile.")
    name = profile or "default"
    image_bytes = folder.column_bytes()["image"] / folder.manifest.images.count
    return coding_of_profile(name, Budget(classes, views, image_bytes)), name


def print_labels(out: Path, labels: Labels, *, json: bool) -> None:
    """Print what the labels written to `out` cost against those they were made from, for people or as JSON."""
    if json:
        print_json({"written": str(out), "labels": labels.model_dump(mode="json")})
        return
    error = labels.certificate
    typer.echo(f"storage error: total variation {error.mean_tv:.2g} mean, {error.max_tv:.2g} max")
    typer.echo(
        f"KL divergence {error.mean_kl:.2g} mean, {error.max_kl:.2g} max; top-1 agreement {error.top1_agreement:.2%}"
    )
    typer.echo(f"wrote {out}")
