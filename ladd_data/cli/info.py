"""`ladd info`: what a dataset is, and the ledger of what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ladd_data.cli.console import AsJson, LabelSetName, Source, print_json

if TYPE_CHECKING:
    from ladd_data.ledger import Counted, Ledger
    from ladd_data.manifest import Coding, Images, Manifest
    from ladd_data.shards.folder import Folder


def info(
    directory: Source,
    labels: LabelSetName = None,
    json: AsJson = False,
) -> None:
    """Print what a dataset is and its ledger: bytes of images and labels, and labeling FLOPs.

    Of a dataset on the Hub only meta/ and the card are downloaded: the ledger has its raw bytes and those of its files.
    """
    from ladd_data.errors import DatasetError
    from ladd_data.ledger import count_ledger
    from ladd_data.remote import fetch_metadata, find_repo
    from ladd_data.shards.joined import read_joined
    from ladd_data.shards.label_sets import list_sets
    from ladd_data.shards.projectors import list_projectors

    if named := find_repo(directory):
        _print_remote(directory, fetch_metadata(*named), json)
        return
    folder = read_joined(Path(directory), labels)
    if problems := folder.check(verify=False):
        raise DatasetError(problems)
    others = [name for name in list_sets(Path(directory)) if name != labels] + list_projectors(Path(directory))
    ledger = count_ledger(folder)
    if json:
        document = {"manifest": folder.manifest.model_dump(mode="json"), "ledger": ledger.as_dict()}
        print_json({**document, "label_sets": others})
        return
    _print_facts(folder.manifest)
    if others:
        typer.echo(f"{'sets':8} {', '.join(others)}: further label sets, see ladd labels")
    _print_ledger(ledger, folder.manifest)


def _print_remote(name: str, folder: Folder, as_json: bool) -> None:
    from ladd_data.ledger import count_raw

    manifest, raw = folder.manifest, count_raw(folder)
    size = sum(shard.bytes for shard in folder.shards)
    if as_json:
        shards = {"count": len(folder.shards), "bytes": size}
        print_json({"manifest": manifest.model_dump(mode="json"), "ledger": {"raw": raw.as_dict()}, "shards": shards})
        return
    _print_facts(manifest)
    typer.echo(f"\nraw bytes: images {raw.images:,}, dense labels {raw.dense_labels:,} ({raw.overhead:.2%})")
    many = "1 shard" if len(folder.shards) == 1 else f"{len(folder.shards)} shards"
    typer.echo(f"on the Hub: {many}, {size:,} bytes, not downloaded; for the whole ledger: ladd pull {name} DIR")


def _print_facts(manifest: Manifest) -> None:
    from ladd_data.views.geometry import say_views

    images, labels, made = manifest.images, manifest.labels, manifest.distillation
    names = ", ".join(manifest.classes.names[:10]) + (", ..." if len(manifest.classes.names) > 10 else "")
    error = images.quantization.error
    facts = {
        "name": f"{manifest.name} (spec {manifest.spec_version}, digest {manifest.digest[:16]}...)",
        "images": f"{images.count} of {images.channels}x{images.height}x{images.width}, {_say_files(images)}",
        "classes": f"{len(manifest.classes.names)}: {names}",
        "method": f"{made.method}, IPC {made.ipc or 'uneven'}",
        "pixels": f"{images.quantization.mode}, RMSE {error.rmse:.4f}; whitening {images.whitening}",
        **({"mosaic": f"{made.mosaic_factor} x {made.mosaic_factor} tiles"} if made.mosaic_factor > 1 else {}),
    }
    if labels is not None:
        missing = "; some are missing" if labels.present else ""
        facts["views"] = f"{labels.count}: {say_views(labels.views)}{missing}"
        facts["labels"] = say_coding(labels.coding) + (f", profile {labels.profile}" if labels.profile else "")
        facts["error"] = f"total variation {labels.certificate.mean_tv:.2g} mean, {labels.certificate.max_tv:.2g} max"
        if labels.labeler is not None:
            maker = labels.labeler
            accuracy = f", accuracy {maker.accuracy:.2%}" if maker.accuracy is not None else ""
            more = labels.ensemble
            beside = f"; mean of {more.average} with {len(more.others)} more" if more is not None else ""
            facts["labeler"] = (
                f"{maker.network.name} width {maker.network.width}, {maker.epochs} epochs{accuracy}{beside}"
            )
    for name, value in facts.items():
        typer.echo(f"{name:8} {value}")


def _say_files(images: Images) -> str:
    return f"PNG {images.png}" if images.png else "the method's own JPEG files"


def say_coding(coding: Coding) -> str:
    """Return how labels are stored, in words."""
    kind = {"dense": f"{coding.dtype} {coding.space}", "topk": f"top-{coding.k} log_probs + tail"}
    return kind.get(coding.encoding, f"{coding.encoding} log_probs") + (" + logz" if coding.logz else "")


def _print_ledger(ledger: Ledger, manifest: Manifest) -> None:
    def line(name: str, counted: Counted, note: str) -> str:
        return f"{name:8}{counted.images:>14,}{counted.dense_labels:>16,}{counted.overhead:>12.2%}  {note}"

    typer.echo(f"\n{'bytes':8}{'images':>14}{'dense labels':>16}{'overhead':>12}")
    typer.echo(line("raw", ledger.raw, "uint8 pixels, label values"))
    scaled = "" if ledger.zipped_records == ledger.records else f", scaled from {ledger.zipped_records} records"
    typer.echo(line("zip", ledger.zip, f"the same through Deflate{scaled}"))
    typer.echo(line("stored", ledger.stored, "in this folder"))
    typer.echo(
        f"hard labels {ledger.hard_labels:,}, views {ledger.views:,}, metadata {ledger.metadata:,}, "
        f"all files {ledger.files:,} bytes"
    )
    if manifest.labels is not None and ledger.labeling_flops is not None:
        typer.echo(f"labeling {ledger.labeling_flops / 1e15:.3g} PFLOPs", nl=ledger.training_flops is None)
        if ledger.training_flops is not None:
            typer.echo(f", training the labeler {ledger.training_flops / 1e15:.3g} PFLOPs")
    for projector in ledger.projectors:
        typer.echo(
            f"projector {projector.name}: {projector.stored:,} bytes; "
            f"{projector.stored + projector.public:,} with the public files that it needs"
        )
