"""`ladd labels`: the label sets of a dataset: what there is, and taking one away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.console import AsJson, Source, print_json
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.manifest import Labels
    from ladd_data.shards.projectors import ProjectorFiles


def labels(
    directory: Source,
    remove: Annotated[str | None, typer.Option(help="Take this label set away; nothing else changes.")] = None,
    json: AsJson = False,
) -> None:
    """List the labels that a dataset has: those in its records, and its label sets.

    "ladd label DIR --as NAME" adds a set, "ladd reencode DIR --as NAME" adds labels again in fewer bytes or views, and
    ladd.load(DIR, labels="NAME") opens the dataset with one; "ladd train-projector DIR --as NAME" adds a network that
    makes labels, ladd.load_online(DIR, "NAME") runs it. Of a dataset on the Hub no labels are downloaded.
    """
    from ladd_data.label_writer import remove_set
    from ladd_data.remote import fetch_statements, find_repo
    from ladd_data.shards.folder import read_metadata
    from ladd_data.shards.joined import open_label_set
    from ladd_data.shards.label_sets import list_sets
    from ladd_data.shards.projectors import list_projectors, open_projector

    named = find_repo(directory)
    if named and remove is not None:
        raise UsageError(f'--remove changes a folder of yours: get it first, "ladd pull {directory} DIR".')
    folder = fetch_statements(*named) if named else read_metadata(Path(directory))
    if remove is not None:
        remove_set(folder, remove)
        if not json:
            typer.echo(f"{directory}: label set {remove} removed")
    inline = folder.manifest.labels
    size = None if named else _count_bytes(folder.column_bytes())
    rows = [] if inline is None else [_describe("default", inline, size)]
    for name in list_sets(folder.path):
        joined = open_label_set(folder, name)
        size = None if named else _count_bytes(joined.labels.column_bytes())
        download = sum(shard.bytes for shard in joined.labels.shards)
        rows.append(_describe(name, joined.labels.statement.labels, size) | {"files": download})
    rows += [_describe_projector(open_projector(folder, name)) for name in list_projectors(folder.path)]
    if json:
        print_json({"path": str(directory), "removed": remove, "labels": rows})
        return
    for row in rows:
        where = "in the records" if row["name"] == "default" else row["name"]
        if "with_public_files" in row:
            more = f"{row['with_public_files']:,} with its public files"
            typer.echo(f"{where}: projector ({row['kind']}), {row['coding']}, {row['bytes']:,} bytes; {more}")
            continue
        missing = "; some are missing" if row["some_missing"] else ""
        taken = f", {row['bytes']:,} bytes" if row["bytes"] is not None else ""
        taken += f" (files: {row['files']:,})" if row["files"] is not None else ""
        error = f"total variation {row['mean_tv']:.2g} mean"
        typer.echo(f"{where}: {row['views']} views ({row['kind']}{missing}), {row['coding']}, {error}{taken}")
    if not rows:
        typer.echo(f'{directory}: no labels. "ladd label" makes some.')


def _describe(name: str, stated: Labels, size: int | None) -> dict[str, object]:
    from ladd_data.cli.info import say_coding
    from ladd_data.views.geometry import say_views

    return {
        "name": name,
        "views": stated.count,
        "kind": say_views(stated.views),
        "coding": say_coding(stated.coding),
        "some_missing": stated.present,
        "mean_tv": stated.certificate.mean_tv,
        "bytes": size,
        "files": None,
        "labeler": stated.labeler.network.name if stated.labeler is not None else None,
        "digest": stated.digest,
    }


def _describe_projector(files: ProjectorFiles) -> dict[str, object]:
    from ladd_data.manifest_projector import RandomBoxes, count_online
    from ladd_data.projector.views import spec_of
    from ladd_data.views.geometry import say_views

    stated = files.statement
    views, projector = stated.views, stated.projector
    drawn = isinstance(views, RandomBoxes)
    return {
        "name": files.name,
        "views": count_online(views),
        "kind": "random boxes, drawn anew each epoch" if drawn else say_views(spec_of(views)),
        "coding": f"{projector.backbone.name}, rank {projector.adapters.rank}, head of rank {projector.head.rank}",
        "bytes": files.bytes,
        "with_public_files": files.bytes + stated.public_bytes,
        "labeler": projector.backbone.name,
        "digest": stated.digest,
    }


def _count_bytes(columns: dict[str, int]) -> int:
    return sum(size for name, size in columns.items() if name.startswith(("dense_", "view_")))
