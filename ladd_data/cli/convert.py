"""`ladd convert`: what a distillation method left on disk becomes a dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from ladd_data.cli.console import AsJson, Overwrite, print_json, progress_bar
from ladd_data.cli.convert_report import print_report, recognise, report_of
from ladd_data.errors import UsageError

_FACTS = "What the files do not say"
_STORAGE = "What is written"


def convert(
    method: Annotated[str, typer.Argument(help="A converter's name, or auto to be told which ones fit a path.")],
    path: Annotated[Path, typer.Argument(help="The run folder, one file of it, or for hub a dataset's name.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder to write.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FACTS,
            help="What was distilled, such as cifar10: the method's own classes and normalisation for it.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(rich_help_panel=_FACTS, help="Class names in label order: a preset, a,b,c or @FILE (one a line)."),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FACTS, help="Of the stored tensors: a preset, or mean/std as 0.5,0.5,0.5/0.5,0.5,0.5."
        ),
    ] = None,
    whitening: Annotated[
        Literal["whitened", "dewhitened"] | None,
        typer.Option(rich_help_panel=_FACTS, help="For ZCA runs: which pixels to take."),
    ] = None,
    iteration: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FACTS, help="Which saved step of a run, as its file names say it; best by default."
        ),
    ] = None,
    experiment: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_FACTS, min=0, help="Which entry of a file that holds several, from 0; the last by default."
        ),
    ] = None,
    label_space: Annotated[
        Literal["classes", "probs", "logits", "targets"] | None,
        typer.Option(rich_help_panel=_FACTS, help="What the numbers of a labels file are."),
    ] = None,
    mosaic_factor: Annotated[
        int | None, typer.Option(rich_help_panel=_FACTS, min=1, help="Pictures per side of each stored image.")
    ] = None,
    learned_lr: Annotated[
        float | None,
        typer.Option(rich_help_panel=_FACTS, min=0, help="The learning rate that was learned with the images."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FACTS,
            help="Images file, in place of the method's own choice; for fkd: the folder that was relabelled.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(rich_help_panel=_FACTS, help="Labels file that belongs to --images.")
    ] = None,
    split: Annotated[str | None, typer.Option(rich_help_panel=_FACTS, help="For hub: which split.")] = None,
    image_column: Annotated[
        str | None, typer.Option(rich_help_panel=_FACTS, help="For hub: which image column.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(rich_help_panel=_FACTS, help="For hub: which label column.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(rich_help_panel=_FACTS, help="For fkd: what logits were divided by before the softmax."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(rich_help_panel=_FACTS, min=0, help="For fkd: of the sampler; 42 by default.")
    ] = None,
    permutations: Annotated[
        int | None,
        typer.Option(rich_help_panel=_FACTS, min=1, max=2, help="For fkd: drawn an epoch; 1 by an old torch."),
    ] = None,
    view_size: Annotated[
        int | None,
        typer.Option(rich_help_panel=_FACTS, min=1, help="For FKD's own files: the side of what the teacher was fed."),
    ] = None,
    pillow: Annotated[
        int | None,
        typer.Option(rich_help_panel=_FACTS, min=1, help="For FKD's own files: the version of Pillow that cut crops."),
    ] = None,
    some_classes: Annotated[
        bool,
        typer.Option(
            "--some-classes",
            rich_help_panel=_FACTS,
            help="There are images of some of the classes only; keep them all.",
        ),
    ] = False,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            rich_help_panel=_FACTS, help="For fkd: a labeler to replay the labels with (again for several, averaged)."
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(rich_help_panel=_FACTS, help="The teacher's network, where it is a module:factory.")
    ] = None,
    pixels: Annotated[
        Literal["auto", "clip", "range"],
        typer.Option(
            rich_help_panel=_STORAGE,
            help="clip keeps a natural picture, range keeps the numbers; auto clips while that is cheap.",
        ),
    ] = "auto",
    png: Annotated[
        Literal["auto", "stored", "small"],
        typer.Option(
            rich_help_panel=_STORAGE, help="stored decodes at memory speed; auto deflates only where it saves a tenth."
        ),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(rich_help_panel=_STORAGE, help="The dataset's name; the folder's by default.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(rich_help_panel=_STORAGE, help="Licence id for the card, such as mit.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, asserted and lost; write nothing.")
    ] = False,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Turn what a distillation method wrote into a dataset folder."""
    if method == "auto":
        recognise(path, as_json=json)
        return
    from ladd_data.convert import prepare
    from ladd_data.convert_run import convert_run
    from ladd_data.converter import Answers, fill_in, find_converter
    from ladd_data.labeling.labeler import load_labeler
    from ladd_data.presets import parse_classes, parse_normalization

    converter = find_converter(method)
    if out is None and not dry_run:
        raise UsageError("-o DIR: name the folder to write (or add --dry-run).")
    said = Answers(
        normalization=parse_normalization(normalization) if normalization else None,
        classes=parse_classes(classes) if classes else None,
        whitening=whitening,
        images=images,
        labels=labels,
        iteration=iteration,
        experiment=experiment,
        label_space=label_space,
        mosaic_factor=mosaic_factor,
        learned_lr=learned_lr,
        split=split,
        image_column=image_column,
        label_column=label_column,
        dataset=dataset,
        temperature=temperature,
        seed=seed,
        permutations=permutations,
        view_size=view_size,
        pillow=pillow,
        some_classes=some_classes or None,
    )
    distilled = converter.read(path, fill_in(converter, said))
    conversion = prepare(distilled, _name(name, out), pixels=pixels, png=png, license=license)
    if not dry_run and out is not None:
        teachers = [load_labeler(path, network=arch) for path in teacher or []]
        with progress_bar("labels") as bar:
            convert_run(conversion, out, overwrite=overwrite, teachers=teachers, on_progress=bar)
    report = report_of(conversion, None if dry_run else out)
    if json:
        print_json(report)
    else:
        print_report(report)


def _name(name: str | None, out: Path | None) -> str:
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name):
            raise UsageError(f'--name "{name}": expected up to 96 letters, digits, ".", "_" or "-".')
        return name
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name if out else "dataset").strip("-._")
    return folder[:96] or "dataset"
