"""A dataset in sentences: what it is, what vouches for it, and what it is meant for."""

from __future__ import annotations

from typing import Literal

from ladd_data.manifest import Boxes, Full, Labeler, Labels, Manifest, Mix, Opaque
from ladd_data.recipe import Recipe
from ladd_data.types import Edition, Level
from ladd_data.views.geometry import say_views

Mark = Literal["good", "look", "fact"]
"""Of a statement: shown by a check; worth a look; neither."""
Statement = tuple[Mark, str, str]
"""(mark, what it is about, the sentence)."""

_LEVELS: dict[Level, str] = {
    "metadata": "the metadata",
    "structure": "metadata, the checksum of every file and all columns, but not every record",
    "full": "metadata, the checksum of every file, and every pixel and label",
}
_EDITIONS: dict[Edition, str] = {"parquet": "Parquet", "webdataset": "WebDataset (tar)", "arrow": "Arrow"}


def say_summary(manifest: Manifest, ipc: str) -> str:
    """Return what the dataset is, in a sentence or two."""
    images, labels, classes = manifest.images, manifest.labels, len(manifest.classes.names)
    kind = "colour" if images.channels == 3 else "greyscale"
    text = (
        f"{count_of(images.count, f'distilled {kind} image')} of {count_of(classes, 'class', 'classes')}, {ipc} per "
        f"class, {images.width} × {images.height} pixels, made by {manifest.distillation.method}."
    )
    if labels is not None:
        text += (
            f" Each comes with {count_of(labels.count, 'dense label')}, one for each view: {say_views(labels.views)}"
        )
        return text + (", some of them missing." if labels.present else ".")
    return text + " Hard labels only: no dense labels yet."


def say_ipc(manifest: Manifest) -> str:
    """Return the images per class in words."""
    count, classes = manifest.images.count, len(manifest.classes.names)
    if manifest.distillation.ipc is not None:
        return str(manifest.distillation.ipc)
    return f"about {count / classes:.3g}" if count % classes else str(count // classes)


def say_facts(manifest: Manifest, edition: Edition, ipc: str) -> dict[str, str]:
    """Return the dataset's particulars, a few words each."""
    images, labels, made = manifest.images, manifest.labels, manifest.distillation
    mosaic = f", {made.mosaic_factor} × {made.mosaic_factor} mosaics" if made.mosaic_factor > 1 else ""
    return {
        "Method": made.method + mosaic,
        "Classes": str(len(manifest.classes.names)),
        "Images per class": ipc,
        "Image size": f"{images.width} × {images.height}, {images.encoding.upper()}",
        "Labels": say_coding(labels) if labels is not None else "hard" + (" and soft" if manifest.soft else ""),
        "Edition": _EDITIONS[edition],
        "Licence": manifest.license or "not stated",
    }


def say_verdict(said: list[Statement]) -> str:
    """Return the answer in a sentence or two: that nothing is wrong, and what is worth a look."""
    names = list(dict.fromkeys(about.lower() for mark, about, _ in said if mark == "look"))
    if not names:
        return "Every check passed."
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"Every check passed. Worth a look before you rely on it: {listed}."


def say_trust(manifest: Manifest, level: Level, records: int, agreement: float | None) -> list[Statement]:
    """Return what speaks for the dataset, and what to look at before relying on it.

    Args:
        manifest: the dataset's.
        level: of the check that found nothing wrong.
        records: how many records that check read.
        agreement: share of views whose most probable class is the hard one; None without dense labels.
    """
    read = f", of all {count_of(records, 'record')}" if level == "full" else ""
    said: list[Statement] = [
        ("good", "Valid", f"Nothing wrong found while this page was written, at level {level}: {_LEVELS[level]}{read}.")
    ]
    labels = manifest.labels
    if labels is not None:
        said += [say_certificate(labels), *say_labelers(labels)]
        if agreement is not None:
            said.append(_say_agreement(agreement, len(manifest.classes.names)))
    if manifest.soft is not None:
        bars = "" if manifest.soft.space != "targets" else "; they are regression targets, so no bars are drawn of them"
        said.append(("fact", "Soft labels", f"The distiller's own, one per image, as {manifest.soft.space}{bars}."))
    said.append(say_pixels(manifest))
    made = manifest.distillation
    if made.asserted:
        by_word, found = ", ".join(made.asserted), ", ".join(made.read) or "nothing"
        text = f"{by_word}: stated by whoever converted it, not found in the files. Read from them: {found}."
        said.append(("look", "Statements", text))
    if manifest.images.whitening == "zca":
        said.append(
            ("look", "Whitening", "The images are ZCA-whitened: a network has to see whitened images in tests.")
        )
    if manifest.license is None:
        said.append(("look", "Licence", "Not stated: ask the author before you publish or redistribute."))
    return said


def say_recipe(recipe: Recipe) -> str:
    """Return how the dataset is meant to be trained on."""
    parts = [f"loss {recipe.loss}"]
    if recipe.view_reduction is not None:
        parts.append(f"{recipe.view_reduction} over views")
    if recipe.temperature is not None:
        parts.append(f"temperature {recipe.temperature:g}")
    if recipe.optimizer is not None:
        rate = f" at {recipe.optimizer.lr:g}" if recipe.optimizer.lr is not None else ""
        parts.append(recipe.optimizer.name + rate)
    if recipe.epochs is not None:
        parts.append(count_of(recipe.epochs, "epoch"))
    if recipe.batch_size is not None:
        parts.append(f"batches of {recipe.batch_size}")
    return ", ".join(parts) + (f" ({recipe.source})" if recipe.source else "") + "."


def say_view_kind(labels: Labels) -> str:
    """Return what a view's rectangle means."""
    if isinstance(labels.views, Full):
        return "the whole image"
    if isinstance(labels.views, Opaque):
        return "not known"
    if isinstance(labels.views, Mix):
        return "a box of its own, mixed with a view of another image"
    return "a box of its own" if isinstance(labels.views, Boxes) else "a crop of the grid"


def percent(share: float) -> str:
    """Return a share such as "84.0 %", never rounded up to 100 or down to 0."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %".replace(".0 %", " %")


def size_of(count: int) -> str:
    """Return a number of bytes in words, 1 kB being 1000."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.3g} {unit}" if count < 999.5 * step else f"{count / step:,.0f} {unit}"
    return f"{count} B"


def flops(count: int) -> str:
    """Return a number of operations such as "1.92 GFLOPs"."""
    for unit, step in (("EFLOPs", 10**18), ("PFLOPs", 10**15), ("TFLOPs", 10**12), ("GFLOPs", 10**9)):
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count / 10**6:.3g} MFLOPs"


def say_certificate(labels: Labels) -> Statement:
    """Return how far stored labels are from the labeler's."""
    error = labels.certificate
    original = "the labels' they were re-encoded from" if labels.parent else "the labeler's"
    agreement = "every view" if error.top1_agreement == 1 else f"{percent(error.top1_agreement)} of views"
    text = (
        f"Stored labels differ from {original} by total variation {error.mean_tv:.2g} on average and "
        f"{error.max_tv:.2g} at most; the most probable class is the same in {agreement}."
    )
    return ("good" if error.mean_tv <= 0.01 else "look", "Certificate", text)


def _say_agreement(agreement: float, classes: int) -> Statement:
    chance = percent(1 / classes)
    text = f"{percent(agreement)} of views have the image's own class on top; by chance it would be {chance}."
    return ("look" if agreement < 1.2 / classes else "fact", "Agreement", text)


def say_labelers(labels: Labels) -> list[Statement]:
    """Return which networks made the labels; of many, the first eight."""
    if labels.labeler is None:
        return [("look", "Labeler", "Not known: the labels came with the dataset, and no network vouches for them.")]
    said = [_say_labeler(labeler) for labeler in labels.labelers[:8]]
    if labels.ensemble is not None:
        text = f"The labels are the mean {labels.ensemble.average} of {len(labels.labelers)} labelers."
        said.append(("fact", "Ensemble", text))
    return said


def _say_labeler(labeler: Labeler) -> Statement:
    trained = f", {count_of(labeler.epochs, 'epoch')}" if labeler.epochs is not None else ""
    if labeler.accuracy is None:
        return ("look", "Labeler", f"{labeler.network.name}{trained}; how accurate it is was not stated.")
    right = f"right on {percent(labeler.accuracy)} of held-out images"
    return ("fact", "Labeler", f"{labeler.network.name}{trained}, {right}.")


def say_pixels(manifest: Manifest) -> Statement:
    """Return what storing the pixels cost."""
    images = manifest.images
    if images.encoding == "jpeg":
        return ("good", "Pixels", "The method's own JPEG files, byte for byte.")
    error = images.quantization.error
    if error.rmse == 0:
        return ("good", "Pixels", "Stored as the method wrote them, without loss.")
    clipped = f"; {percent(error.clipped_share)} of values were cut off" if error.clipped_share else ""
    text = f"Storing 8 bits cost an RMSE of {error.rmse:.2g} where black to white is 1{clipped}."
    return ("look" if error.clipped_share > 0.01 else "good", "Pixels", text)


def say_coding(labels: Labels) -> str:
    """Return how labels are stored, in a few words."""
    coding = labels.coding
    kind = f"top {coding.k}" if coding.encoding == "topk" else coding.encoding
    kind = f"{coding.dtype} {coding.space}" if coding.encoding == "dense" else kind
    return f"{labels.count} per image, {kind.replace('_', '-')}"


def count_of(count: int, one: str, several: str | None = None) -> str:
    """Return a number of things, such as "1 view" or "2,000 views"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
