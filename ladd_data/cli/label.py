"""`ladd label`: every view of every image gets a soft label."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ladd_data.cli.codings import choose_coding, choose_target, say_left_behind
from ladd_data.cli.console import AsJson, Device, Overwrite, Source, choose_device, one_voice, print_json, progress_bar
from ladd_data.errors import UsageError, nearest

if TYPE_CHECKING:
    from ladd_data.dataset import Dataset
    from ladd_data.manifest import Manifest, ViewSpec

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def label(
    directory: Source,
    labeler: Annotated[
        list[Path], typer.Option(help="The .safetensors file of ladd train-labeler; several are averaged.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write; may be DIR with --overwrite.")
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", help="In place of -o: add the labels to DIR as a label set of this name.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="The labeler's network said again, where it is code of your own, module:factory.")
    ] = None,
    average: Annotated[str, typer.Option(help="Of several labelers: probs (their mean), or logits.")] = "probs",
    grid: Annotated[int, typer.Option(min=1, max=64, help="Views per axis.")] = 5,
    ratio: Annotated[str, typer.Option(help="Side of a view as an exact fraction of the image's.")] = "5/8",
    full: Annotated[bool, typer.Option("--full", help="One view, the whole image, in place of a grid.")] = False,
    boxes: Annotated[int | None, typer.Option(min=1, help="Random crops per image, in place of a grid.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="With --boxes: mirror half of them.")] = False,
    mix: Annotated[
        str | None, typer.Option(help="With --boxes: mix each with another image's: cutmix, mixup or both.")
    ] = None,
    box_seed: Annotated[int, typer.Option(min=0, help="With --boxes: of the draw, mixing included.")] = 0,
    profile: Annotated[
        str | None,
        typer.Option(help="default: float16 log-probabilities + logz; paper: float32 probabilities; compact."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="In place of a profile: float32, float16, q8, q4 or topk.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Classes kept per view, for --encoding topk.")] = None,
    logz: Annotated[bool, typer.Option(help="With --encoding: keep what gives the logits back.")] = True,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="float32 (without TF32), or bf16 (autocast).")] = "float32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Compute in the format NHWC.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Let torch.compile compile the labeler.")] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Views in each forward pass; found from the network where left out.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="What may be used on the device, such as 8G; most of what is free.")
    ] = None,
    overwrite: Overwrite = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what a run cut short has left.")] = False,
    run_log: Annotated[bool, typer.Option(help="Write meta/run.json: seconds, device, releases.")] = True,
    json: AsJson = False,
) -> None:
    """Label the views of a dataset (LADD, Algorithm 1): a labelled copy (-o), or one more label set of it (--as).

    A run that is cut short goes on where it was when it is called again. Under torchrun all ranks share the work.
    """
    from ladd_data.dataset import load
    from ladd_data.files import recover
    from ladd_data.labeling.add import add_labels
    from ladd_data.labeling.drawing import BoxDraw
    from ladd_data.labeling.label import Reports, label_dataset
    from ladd_data.labeling.labeler import LoadedLabeler, load_labeler
    from ladd_data.labeling.plan import LabelPlan
    from ladd_data.manifest import count_views
    from ladd_data.team import device_of_rank, join_ranks

    target = choose_target(directory, out, as_)
    _check_choice("--average", average, ("probs", "logits"))
    _check_choice("--precision", precision, ("float32", "bf16"))
    allowed = _parse_bytes(memory)
    views = _choose_views(grid, ratio, full, boxes, flip, mix)
    with join_ranks() as ranks, one_voice(ranks):
        chosen = device_of_rank(choose_device(device))
        if out is not None:
            ranks.lead(lambda: recover(out))
        opened: list[tuple[Dataset, list[LoadedLabeler]]] = []
        ranks.each(
            lambda: opened.append((load(directory), [load_labeler(path, chosen, network=arch) for path in labeler]))
        )
        dataset, (first, *others) = opened[0]
        coding, name = choose_coding(dataset.folder, count_views(views), profile, encoding, top_k, logz)
        if others and average == "probs" and encoding is None:
            coding = coding.model_copy(update={"logz": False})  # the mean of probabilities has no logits to give back
        plan = LabelPlan(
            *(first, views, coding, chosen, name, BoxDraw(seed=box_seed), tuple(others)),
            average=cast(Literal["probs", "logits"], average),
            precision=cast(Literal["float32", "bf16"], precision),
            channels_last=channels_last,
            compile=compile,
            batch=batch,
            memory=allowed,
        )
        with progress_bar("labeling") as on_progress:
            reports = Reports(on_progress, _say if ranks.leads else lambda sentence: None, run_log)
            began = time.perf_counter()
            write = partial(add_labels, dataset, plan, as_) if as_ else partial(label_dataset, dataset, plan, target)
            manifest = write(overwrite=overwrite, restart=restart, ranks=ranks, reports=reports)
        if ranks.leads:
            if not as_:
                say_left_behind(directory)
            _report(dataset, manifest, target, time.perf_counter() - began, as_json=json)


def _report(dataset: Dataset, manifest: Manifest, out: Path, seconds: float, *, as_json: bool) -> None:
    labels = manifest.labels
    if labels is None or labels.labeler is None:
        return
    if as_json:
        print_json({"written": str(out), "labels": labels.model_dump(mode="json")})
        return
    certificate, maker = labels.certificate, labels.labeler
    on = f"{maker.device} in {seconds:.1f} s, {maker.precision}, {maker.batch} views a pass"
    typer.echo(f"{len(dataset)} images x {labels.count} views labelled on {on}")
    typer.echo(f"storage error: total variation {certificate.mean_tv:.2g} mean, {certificate.max_tv:.2g} max")
    typer.echo(f"wrote {out}")


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f'{option} "{value}" is not known. {nearest(value, known)}')


def _parse_bytes(text: str | None) -> int | None:
    """Return the number of bytes that "8G", "500M" or "1000" means."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise UsageError(f'--memory "{text}": found no number of bytes; expected one such as 8G or 500M.')
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _choose_views(grid: int, ratio: str, full: bool, boxes: int | None, flip: bool, mix: str | None) -> ViewSpec:
    from ladd_data.manifest import Boxes, Full, Mix
    from ladd_data.views.geometry import grid as make_grid

    if full and boxes is not None:
        raise UsageError("--full and --boxes exclude each other: give one.")
    if flip and boxes is None:
        raise UsageError("--flip goes with --boxes.")
    if mix is not None:
        _check_choice("--mix", mix, ("cutmix", "mixup", "both"))
        if boxes is None:
            raise UsageError("--mix goes with --boxes.")
        return Mix(count=boxes, flip=flip, cutmix=mix != "mixup", mixup=mix != "cutmix")
    if boxes is not None:
        return Boxes(count=boxes, flip=flip)
    return Full() if full else make_grid(grid, ratio)
