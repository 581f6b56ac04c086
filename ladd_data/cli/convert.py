"""`ladd convert`: what a distillation method left on disk becomes a dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ladd_data.cli.console import AsJson, Overwrite, print_json
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.convert import Conversion


def convert(
    method: Annotated[str, typer.Argument(help="mtt, or auto to be told which method a path looks like.")],
    path: Annotated[Path, typer.Argument(help="The run folder, or one file of it.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder to write.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names in label order: a preset, a,b,c or @FILE (one a line).")
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(help="Of the stored pixels: a preset, or mean/std as 0.5,0.5,0.5/0.5,0.5,0.5."),
    ] = None,
    whitening: Annotated[
        Literal["whitened", "dewhitened"] | None,
        typer.Option(help="For ZCA runs: which pixels to take."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Images file, in place of the method's own choice.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels file that belongs to --images.")] = None,
    pixels: Annotated[
        Literal["auto", "clip", "range"],
        typer.Option(help="clip keeps a natural picture, range keeps the numbers; auto clips while that is cheap."),
    ] = "auto",
    png: Annotated[
        Literal["auto", "stored", "small"],
        typer.Option(help="stored decodes at memory speed; auto deflates only where it saves a tenth."),
    ] = "auto",
    name: Annotated[str | None, typer.Option(help="The dataset's name; the folder's by default.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence id for the card, such as mit.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read and lost; write nothing.")] = False,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Turn what a distillation method wrote into a dataset folder."""
    if method == "auto":
        _detect(path)
        return
    from ladd_data.convert import convert as write
    from ladd_data.convert import prepare
    from ladd_data.converter import Answers, find_converter
    from ladd_data.presets import parse_classes, parse_normalization

    converter = find_converter(method)
    if out is None and not dry_run:
        raise UsageError("-o DIR: name the folder to write (or add --dry-run).")
    answers = Answers(
        normalization=parse_normalization(normalization) if normalization else None,
        classes=parse_classes(classes) if classes else None,
        whitening=whitening,
        images=images,
        labels=labels,
    )
    distilled = converter.read(path, answers)
    conversion = prepare(distilled, _name(name, out), pixels=pixels, png=png, license=license)
    if not dry_run and out is not None:
        write(conversion, out, overwrite=overwrite)
    report = _report(conversion, None if dry_run else out)
    if json:
        print_json(report)
    else:
        _print(report)


def _detect(path: Path) -> None:
    from ladd_data.converter import find_converter, list_converters

    if not path.exists():
        raise UsageError(f"{path}: no such folder or file.")
    for name in list_converters():
        reason = find_converter(name).detect(path)
        if reason:
            typer.echo(f"{path} looks like {name}: {reason}.")
            typer.echo(f"ladd convert {name} {path} -o DIR --classes ... --normalization ...")
            return
    known = ", ".join(list_converters())
    raise UsageError(f"{path}: no converter recognises it. If you know the method, name it: {known}.")


def _name(name: str | None, out: Path | None) -> str:
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name):
            raise UsageError(f'--name "{name}": expected up to 96 letters, digits, ".", "_" or "-".')
        return name
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name if out else "dataset").strip("-._")
    return folder[:96] or "dataset"


def _report(conversion: Conversion, out: Path | None) -> dict[str, object]:
    distilled = conversion.distilled
    count, channels, height, width = conversion.stored.shape
    return {
        "written": str(out) if out else None,
        "method": distilled.method,
        "images": count,
        "shape": [channels, height, width],
        "classes": len(distilled.classes.names),
        "whitening": distilled.whitening,
        "png": conversion.png,
        "pixels": conversion.quantization.model_dump(mode="json"),
        "files": [str(path) for path in distilled.files],
        "read": distilled.read,
        "asserted": distilled.asserted,
    }


def _print(report: dict[str, object]) -> None:
    pixels = report["pixels"]
    shape = report["shape"]
    assert isinstance(pixels, dict) and isinstance(shape, list)
    channels, height, width = shape
    kind = "RGB" if channels == 3 else "greyscale"
    typer.echo(
        f"{report['images']} images of {width}x{height} {kind}, {report['classes']} classes, by {report['method']}"
    )
    for way in ("clip", "range"):
        error = pixels[way] or (pixels["error"] if pixels["mode"] == way else None)
        if error:
            chosen = "  <- chosen" if pixels["mode"] == way else ""
            cost = f"RMSE {error['rmse']:.4f}, max {error['max_abs']:.3f}, {error['clipped_share']:.1%} clipped"
            typer.echo(f"uint8 by {way}: {cost}{chosen}")
    typer.echo(f"wrote {report['written']}" if report["written"] else "dry run: nothing written")
