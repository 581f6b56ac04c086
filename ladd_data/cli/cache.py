"""`ladd cache`: what loaders keep decoded on this machine, and how to be rid of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ladd_data.cli.console import AsJson, print_json

if TYPE_CHECKING:
    from ladd_data.loaders.caching.cache import Entry

cache = typer.Typer(
    name="cache",
    help="List or clear what loaders keep decoded on this machine ($LADD_CACHE, else ~/.cache/ladd-data).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cache.command("list")
def list_cache(json: AsJson = False) -> None:
    """List the cached datasets, that used last first."""
    from ladd_data.loaders.caching.cache import cache_root, list_entries

    entries = list_entries()
    if json:
        print_json({"cache": str(cache_root()), "entries": [_as_dict(entry) for entry in entries]})
        return
    for entry in entries:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        typer.echo(f"{entry.digest[:16]}  {entry.bytes / 1e6:>12,.1f} MB  used {used}")
    total = sum(entry.bytes for entry in entries) / 1e6
    typer.echo(f"{len(entries)} datasets, {total:,.1f} MB in {cache_root()}")


@cache.command("clear")
def clear(
    digest: Annotated[
        str | None, typer.Argument(help="The beginning of a dataset's digest; all of them if not given.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Remove cached datasets; the datasets themselves stay, and are decoded again when next needed."""
    from ladd_data.loaders.caching.cache import cache_root, clear_cache

    removed = clear_cache(digest)
    if json:
        print_json({"cache": str(cache_root()), "removed": [_as_dict(entry) for entry in removed]})
        return
    total = sum(entry.bytes for entry in removed) / 1e6
    typer.echo(f"removed {len(removed)} datasets, {total:,.1f} MB, from {cache_root()}")


def _as_dict(entry: Entry) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "key": entry.key,
        "path": str(entry.path),
        "bytes": entry.bytes,
        "used": datetime.fromtimestamp(entry.used).isoformat(timespec="seconds"),
    }
