"""What `label` and `reencode` share: choosing a coding and a target, and printing what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ladd_data.cli.console import print_json
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.manifest import Coding, Labels
    from ladd_data.reencode import Keep
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


def choose_target(directory: str, out: Path | None, name: str | None) -> Path:
    """Return the folder that labels go to: that of -o, or that of a label set of the dataset.

    Raises:
        UsageError: neither or both were given, or a set was to be added to a dataset of the Hub.
    """
    from ladd_data.remote import find_repo

    if (out is None) == (not name):
        raise UsageError("say where the labels go: -o FOLDER, a copy with them, or --as NAME, a label set of DIR.")
    if name and find_repo(directory):
        raise UsageError(f'--as writes into a folder of yours: get it first, "ladd pull {directory} DIR".')
    return Path(directory) / "labels" / str(name) if out is None else out


def say_left_behind(directory: str, used: str | None = None) -> None:
    """Say, on stderr, which label sets a copy lacks: those of the Hub that were not downloaded."""
    from ladd_data.remote import find_folder
    from ladd_data.shards.label_sets import list_sets, list_whole_sets
    from ladd_data.shards.projectors import list_projectors, list_whole_projectors

    folder, on_hub = find_folder(directory, labels=used)
    there = {*list_whole_sets(folder), *list_whole_projectors(folder)}
    if left := sorted({*list_sets(folder), *list_projectors(folder)} - there):
        get = f'"ladd pull {directory} DIR" gets all.' if on_hub else "See ladd validate."
        typer.echo(f"label sets left out, as their labels are not here: {', '.join(left)}. {get}", err=True)


def print_labels(out: Path, labels: Labels, *, json: bool, kept: Keep | None = None) -> None:
    """Print what the labels written to `out` cost against those they were made from, for people or as JSON."""
    if json:
        pruned = {} if kept is None else {"kept": {"views": kept.views, "of": labels.count, "seed": kept.seed}}
        print_json({"written": str(out), **pruned, "labels": labels.model_dump(mode="json")})
        return
    if kept is not None:
        typer.echo(f"kept {kept.views} of {labels.count} views of each image, by seed {kept.seed}; see view_present")
    error = labels.certificate
    typer.echo(f"storage error: total variation {error.mean_tv:.2g} mean, {error.max_tv:.2g} max")
    typer.echo(
        f"KL divergence {error.mean_kl:.2g} mean, {error.max_kl:.2g} max; top-1 agreement {error.top1_agreement:.2%}"
    )
    typer.echo(f"wrote {out}")
