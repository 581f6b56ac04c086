"""What `ladd convert` prints: which converter a path looks like, and what was read, asserted and lost."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ladd_data.cli.console import print_json
from ladd_data.errors import LaddError, UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from ladd_data.convert import Conversion
    from ladd_data.converter import Description, ViewLabels

FILES_SHOWN = 6


def recognise(path: Path, *, as_json: bool = False) -> None:
    """Print every converter that knows the path, why, what it would ask, and the command to run.

    Raises:
        UsageError: none does.
    """
    from ladd_data.converter import find_converter, list_converters

    names = list(list_converters())
    found = {name: converter for name in names if (converter := find_converter(name)).detect(path)}
    if not found:
        known = ", ".join(names)
        if not path.exists():
            raise UsageError(f"{path}: no such folder or file.")
        raise UsageError(f"{path}: no converter recognises it. If you know the method, name it: {known}.")
    described: dict[str, Description] = {}
    refused: dict[str, LaddError] = {}
    for name, converter in found.items():
        try:
            described[name] = converter.describe(path)
        except LaddError as error:
            refused[name] = error
    if not described:
        raise next(iter(refused.values()))
    if as_json:
        print_json([{"method": name, **_as_dict(name, path, what)} for name, what in described.items()])
        return
    for name, what in described.items():
        _print_description(name, path, what)
    for name, refusal in refused.items():
        typer.echo(f"{path} looks like {name}, too: {refusal}")


def _print_description(name: str, path: Path, what: Description) -> None:
    typer.echo(f"{path} looks like {name}: {what.reason}.")
    typer.echo(f"  reads {_say_files(what.files)}")
    for ask in what.asks:
        typer.echo(f"  needs {ask.option}: {ask.why}")
    for note in what.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"  {_command(name, path, what)}")


def report_of(conversion: Conversion, out: Path | None) -> dict[str, Any]:
    """Return what a conversion read, was told, stores and loses, for people and for `--json`."""
    distilled = conversion.distilled
    count, channels, height, width = conversion.stored.shape
    return {
        "written": str(out) if out else None,
        "method": distilled.method,
        "images": count,
        "shape": [channels, height, width],
        "classes": len(distilled.classes.names),
        "whitening": distilled.whitening,
        "encoding": "png" if conversion.png else "jpeg",
        "png": conversion.png,
        "pixels": conversion.quantization.model_dump(mode="json"),
        "soft_labels": distilled.soft.space if distilled.soft else None,
        "view_labels": _describe_labels(distilled.view_labels),
        "mosaic_factor": distilled.mosaic_factor,
        "learned_lr": distilled.learned_lr,
        "files": [str(path) for path in distilled.files],
        "read": distilled.read,
        "asserted": distilled.asserted,
        "notes": list(distilled.notes),
    }


def _describe_labels(labels: ViewLabels | None) -> dict[str, Any] | None:
    if labels is None:
        return None
    from ladd_data.views.geometry import say_views

    return {
        "name": labels.name,
        "views": labels.values.shape[1],
        "missing": 0 if labels.present is None else int((~labels.present).sum()),
        "kind": say_views(labels.views),
        "space": labels.space,
        "temperature": labels.temperature,
        "dtype": str(labels.values.dtype),
    }


def print_report(report: dict[str, Any]) -> None:
    """Print a report for people."""
    channels, height, width = report["shape"]
    kind = "RGB" if channels == 3 else "greyscale"
    typer.echo(
        f"{report['images']} images of {width}x{height} {kind}, {report['classes']} classes, by {report['method']}"
    )
    typer.echo(f"read {_say_files(tuple(map(Path, report['files'])))}{_say_facts(report['read'])}")
    typer.echo(f"asserted{_say_facts(report['asserted']) or ': nothing'}")
    if report["soft_labels"]:
        typer.echo(f"whole-image soft labels stored as soft_{report['soft_labels']}")
    if report["view_labels"]:
        made = report["view_labels"]
        typer.echo(
            f"{made['views']} views an image ({made['kind']}), {made['space']} in {made['dtype']}: label set "
            f"{made['name']}"
        )
    _print_pixels(report)
    for note in report["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"wrote {report['written']}" if report["written"] else "dry run: nothing written")


def _print_pixels(report: dict[str, Any]) -> None:
    pixels = report["pixels"]
    if pixels["mode"] == "none":
        kept = "kept byte for byte" if report["encoding"] == "jpeg" else "kept pixel for pixel"
        typer.echo(f"picture files: {kept}, nothing lost")
        return
    for way in ("clip", "range"):
        error = pixels[way] or (pixels["error"] if pixels["mode"] == way else None)
        if error:
            chosen = "  <- chosen" if pixels["mode"] == way else ""
            cost = f"RMSE {error['rmse']:.4f}, max {error['max_abs']:.3f}, {error['clipped_share']:.1%} clipped"
            typer.echo(f"uint8 by {way}: {cost}{chosen}")


def _as_dict(name: str, path: Path, what: Description) -> dict[str, JsonValue]:
    return {
        "reason": what.reason,
        "files": [str(file) for file in what.files],
        "needs": [{"option": ask.option, "why": ask.why, "example": ask.example} for ask in what.asks],
        "notes": list(what.notes),
        "command": _command(name, path, what),
    }


def _command(name: str, path: Path, what: Description) -> str:
    asked = "".join(f" {ask.option} {shlex.quote(ask.example)}" for ask in what.asks)
    return f"ladd convert {name} {shlex.quote(str(path))} -o DIR{asked}"


def _say_files(files: tuple[Path, ...]) -> str:
    shown = ", ".join(file.name for file in files[:FILES_SHOWN])
    more = len(files) - FILES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _say_facts(facts: dict[str, JsonValue]) -> str:
    """Return ": key value, ..." with long lists shortened; nothing where there are no facts."""
    said = []
    for key, value in facts.items():
        short = f"{len(value)} items" if isinstance(value, list) and len(value) > 4 else value
        if isinstance(short, dict):
            short = "/".join(
                ",".join(map(str, part)) if isinstance(part, list) else str(part) for part in short.values()
            )
        said.append(f"{key} {','.join(map(str, short)) if isinstance(short, list) else short}")
    return ": " + "; ".join(said) if said else ""
