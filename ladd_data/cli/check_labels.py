"""`ladd check-labels`: whether the stored labels are what the named labeler says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladd_data.cli.console import AsJson, Device, LabelSetName, Source, choose_device, print_json, progress_bar
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.labeling.checking.check import Difference, LabelCheck

SAMPLE = 256


def check_labels(
    directory: Source,
    labeler: Annotated[
        list[Path], typer.Option(help="The .safetensors file that the manifest names; each one, where several do.")
    ],
    sample: Annotated[
        int | None, typer.Option(min=1, help=f"Records to recompute, spread over all shards; {SAMPLE} if left out.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Recompute every record.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the sample.")] = 0,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Largest total variation of a record; from the certificate and precision if left out."
        ),
    ] = None,
    device: Device = "auto",
    batch: Annotated[int | None, typer.Option(min=1, help="Views in each forward pass.")] = None,
    labels: LabelSetName = None,
    json: AsJson = False,
) -> None:
    """Recompute labels from the labeler's weights and compare; exit code 1, with the cause, if they differ."""
    if every and sample is not None:
        raise UsageError("--all and --sample exclude each other: give one.")
    from ladd_data.dataset import load
    from ladd_data.labeling.checking.check import check_labels as check
    from ladd_data.labeling.labeler import load_labeler

    chosen = choose_device(device)
    dataset, labelers = load(directory, labels=labels), [load_labeler(path, chosen) for path in labeler]
    with progress_bar("checking labels") as on_progress:
        result = check(
            dataset,
            labelers,
            sample=None if every else sample or SAMPLE,
            seed=seed,
            tolerance=tolerance,
            batch=batch,
            on_progress=on_progress,
        )
    if json:
        print_json({"path": directory, "labelers": [str(path) for path in labeler], **result.as_dict()})
    else:
        _report(directory, result)
    if not result.agrees:
        raise typer.Exit(1)


def _report(directory: str, result: LabelCheck) -> None:
    for shard in result.shards:
        beyond = f"; {shard.beyond} records beyond the tolerance" if shard.beyond else ""
        verdict = "" if shard.agrees else "DIFFERS: "
        typer.echo(f"{shard.path}: {verdict}{shard.difference.records} records, {_say(shard.difference)}{beyond}")
    whole = result.difference
    which = f"sample of {whole.records}" if whole.records < result.of else "all"
    typer.echo(f"{which} of {result.of} records: {_say(whole)}")
    limits = result.tolerance
    logz = f", log-sum-exp {limits.logz:.2g}" if limits.logz is not None and result.logz is not None else ""
    typer.echo(f"tolerance: total variation {limits.mean_tv:.2g} mean, {limits.record_tv:.2g} of one record{logz}")
    if result.logz is not None:
        typer.echo(f"log-sum-exp: largest difference {result.logz:.2g} of itself")
    if result.agrees:
        typer.echo(f"{directory}: the labels are what the labeler says")
        return
    name, tv = result.worst
    typer.echo(f'{directory}: the labels are not confirmed; record "{name}" is farthest, total variation {tv:.2g}')
    for cause in result.causes:
        typer.echo(f"cause: {cause.name}: {cause.sentence}.")


def _say(difference: Difference) -> str:
    d = difference
    return (
        f"{d.views} views, total variation {d.mean_tv:.2g} mean, {d.max_tv:.2g} max, "
        f"KL {d.mean_kl:.2g} mean, {d.max_kl:.2g} max, top-1 agreement {d.top1_agreement:.2%}"
    )
