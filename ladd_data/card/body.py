"""The body of a dataset's card: what a stranger wants to know of it, made from the manifest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from ladd_data.card.columns import COLUMNS
from ladd_data.card.header import source_dataset
from ladd_data.card.limits import list_limits
from ladd_data.card.sections import Section, make_section
from ladd_data.card.snippets import write_snippets
from ladd_data.card.words import (
    count_of,
    flops,
    percent,
    say_certificate,
    say_facts,
    say_ipc,
    say_labelers,
    say_pixels,
    say_recipe,
    say_summary,
    size_of,
)
from ladd_data.manifest import Boxes, Full, Grid, Manifest, Mix, Opaque
from ladd_data.shards.layout import layout_of
from ladd_data.types import TYPE_BYTES, Edition
from ladd_data.views.geometry import crop_side, say_views

SNIPPETS = "Load it"
_OPEN_CLASSES = 20
"""Classes that are listed in sight; more are folded."""
_MAX_CLASSES = 1000
"""Classes that are listed at all."""
_MAX_VALUE = 300
"""Characters of a value that a person or a file gave."""


def write_body(
    manifest: Manifest, edition: Edition, stored: Mapping[str, int], repo: str | None, shown: Sequence[str]
) -> list[Section]:
    """Return the sections of a card, none of them empty.

    Args:
        manifest: what the card tells of.
        edition: what the shards are.
        stored: bytes of each column in the shards.
        repo: "user/name", for the code; a placeholder where left out.
        shown: the lines that show the picture of samples; none where there is none.
    """
    parts = {
        SNIPPETS: write_snippets(manifest, edition, repo),
        "Columns": _columns(manifest, edition),
        "Classes": _classes(manifest),
        "Views": _views(manifest),
        "Labeler": _labelers(manifest),
        "How exact the labels are": _certificate(manifest),
        "How to train on it": _recipe(manifest),
        "What it costs": _ledger(manifest, stored),
        "Where it comes from": _source(manifest),
        "Known limits": [f"- {limit}" for limit in list_limits(manifest)],
        "Citation": _citation(manifest),
    }
    return [_title(manifest, edition, shown), *(make_section(name, lines) for name, lines in parts.items() if lines)]


def escape(text: object, limit: int = _MAX_VALUE) -> str:
    """Return a text that someone else wrote as one line of plain Markdown."""
    line = " ".join(str(text).split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return re.sub(r"([\\`*_\[\]<>|#~$!&])", r"\\\1", line)


def _title(manifest: Manifest, edition: Edition, shown: Sequence[str]) -> Section:
    lines = [
        escape_sentence(say_summary(manifest, say_ipc(manifest))),
        "",
        "A distilled dataset is a few images per class, made so that a network trained on them alone learns as much as "
        "it can of the whole dataset that was distilled. They need not look like photographs.",
    ]
    if manifest.labels is not None:
        lines[-1] += (
            " Its dense labels say, for each of several crops of an image, how probable each class is "
            "(LADD, WACV 2025): train on the crops with them, and on the whole images with their hard class."
        )
    facts = say_facts(manifest, edition, say_ipc(manifest))
    table = [f"| {name} | {escape(value)} |" for name, value in facts.items()]
    table.append(f"| Digest | `{manifest.digest}` |")
    return Section(f"# {manifest.name}", tuple([*lines, "", *shown, "| | |", "|---|---|", *table]))


def escape_sentence(text: str) -> str:
    """Return one of our sentences, in which a name of someone else's may stand, as plain Markdown."""
    return escape(text, 10_000)


def _columns(manifest: Manifest, edition: Edition) -> list[str]:
    layout, tar = layout_of(manifest), edition == "webdataset"
    image, label, key = (layout.suffix, "cls", "__key__") if tar else ("image", "label", "id")
    channels, height, width = layout.shape
    file = "JPEG file, as the method wrote it" if layout.png is None else "PNG file"
    if edition == "arrow":
        file = f"pixels, uint8 ({channels}, {height}, {width})"
    rows = [
        f"| `{image}` | {file} | the image, {width} x {height} |",
        f"| `{label}` | integer | the hard class |",
        f"| `{key}` | text | the record's name, which it keeps for ever |",
    ]
    if edition == "arrow" and layout.png is None:
        rows.insert(1, "| `image_file` | bytes | the JPEG file, as the method wrote it |")
    for name, (shape, dtype) in layout.dense.items():
        kind = f"{shape[0]} bytes" if dtype == "bytes" else f"{dtype} ({', '.join(map(str, shape))})"
        rows.append(f"| `{name}{'.npy' if tar else ''}` | {kind} | {COLUMNS.get(name, '')} |")
    return ["| column | type | what it holds |", "|---|---|---|", *rows]


def _classes(manifest: Manifest) -> list[str]:
    classes = manifest.classes
    total = len(classes.names)
    listed = [f"{number} {escape(name, 80)}" for number, name in enumerate(classes.names[:_MAX_CLASSES])]
    rows = [", ".join(listed[at : at + _OPEN_CLASSES]) for at in range(0, len(listed), _OPEN_CLASSES)]
    where = ""
    if classes.ids is not None:
        where = f" Their ids in {escape(classes.source or 'the source')} are in `meta/ladd.json`."
    said = f"{count_of(total, 'class', 'classes')}, by label.{where}"
    if total <= _OPEN_CLASSES:
        return [said, "", *rows]
    cut = f"The first {_MAX_CLASSES}; all are in `meta/ladd.json`." if total > _MAX_CLASSES else ""
    return [said, "", "<details>", f"<summary>All {total} names</summary>", "", *_spaced([*rows, cut]), "</details>"]


def _spaced(lines: Iterable[str]) -> list[str]:
    return [part for line in lines if line for part in (line, "")]


def _views(manifest: Manifest) -> list[str]:
    labels, images = manifest.labels, manifest.images
    if labels is None:
        return []
    views = labels.views
    if isinstance(views, Full):
        return ["Each image has one view: the whole image. So each has one soft label."]
    if isinstance(views, Opaque):
        return [f"Each image has {count_of(views.count, 'label')}, of views that cannot be cut again: {views.reason}."]
    if isinstance(views, Mix):
        return [f"Each image has {count_of(views.count, 'view')}: {say_views(views)}{_say_resized(views)}"]
    if isinstance(views, Boxes):
        said = f"Each image has {count_of(views.count, 'view')}, boxes of its own in `view_box`"
        return [said + (", mirrored where `view_flip` says so" if views.flip else "") + _say_resized(views)]
    high, wide = crop_side(views, images.height), crop_side(views, images.width)
    said = (
        f"Each image has {count_of(labels.count, 'view')}: {say_views(views)}, here {wide} x {high} pixels, row "
        f"by row from the top left{_say_resized(views)}"
    )
    return [said + (" Some are missing: see `view_present`." if labels.present else "")]


def _say_resized(views: Grid | Boxes | Mix) -> str:
    size = f"{views.size} x {views.size} pixels" if isinstance(views, Boxes) and views.size else "the image's size"
    exact = "on pixels 0 to 255. `ladd-data` cuts views bit-equal to those that were labelled"
    if views.resample == "bilinear":
        how = "bilinear, with half-pixel centres and without antialiasing"
        rounding = "the code above for Pillow differs by rounding to whole numbers"
        return f". A view is its crop resized to {size}, {how}, {exact}; {rounding}."
    version, _, kernel = views.resample.partition("-")
    since = " from version 13 on" if version == "pillow13" else ""
    return f". A view is its crop resized to {size} by Pillow's {kernel} filter, as it is{since}, {exact}."


def _labelers(manifest: Manifest) -> list[str]:
    labels = manifest.labels
    if labels is None:
        return []
    lines = [f"- {escape_sentence(text)}" for _, _, text in say_labelers(labels)]
    for labeler in labels.labelers[:1]:
        size = f"{labeler.network.size} x {labeler.network.size}"
        made = f"Input {size}, {labeler.precision}, on {escape(labeler.device)}; labeling took about "
        lines.append(f"- {made}{flops(sum(one.labeling_flops for one in labels.labelers))}.")
        lines.append(f"- SHA-256 of its weights: `{labeler.weights_digest}`")
    if labels.temperature != 1:
        lines.append(f"- Labels were taken at temperature {labels.temperature:g}.")
    return lines


def _certificate(manifest: Manifest) -> list[str]:
    if manifest.labels is None:
        return []
    error = manifest.labels.certificate
    return [
        say_certificate(manifest.labels)[2],
        "",
        "| | mean | max |",
        "|---|---|---|",
        f"| total variation | {error.mean_tv:.2g} | {error.max_tv:.2g} |",
        f"| KL divergence, nats | {error.mean_kl:.2g} | {error.max_kl:.2g} |",
        "",
        f"Same most probable class: {percent(error.top1_agreement)} of views. "
        "Total variation is half the sum of absolute differences; 0 is equal, 1 has nothing in common.",
    ]


_LOSSES = {
    "hard-ce": "cross-entropy of each image with its hard class",
    "ladd": "cross-entropy of the whole image with its hard class, plus that of each view with its dense label",
    "soft-ce": "cross-entropy with the soft label",
    "soft-ce-ce": "cross-entropy with the soft label and, beside it, with the hard class",
    "kl": "the Kullback-Leibler divergence of the network's distribution from the soft label",
    "kl-ce": "the Kullback-Leibler divergence from the soft label and, beside it, cross-entropy with the hard class",
    "topk-kl": "the Kullback-Leibler divergence over the classes that were kept",
    "mse": "the squared error of the network's outputs",
    "mse-ce": "the squared error of the network's outputs and, beside it, cross-entropy with the hard class",
    "gift": "the cosine loss on refined soft labels (GIFT)",
}


def _recipe(manifest: Manifest) -> list[str]:
    loss = manifest.recipe.loss
    meaning = f" The loss `{loss}` is {_LOSSES[loss]}." if loss in _LOSSES else ""
    lines = [f"Meant for {escape_sentence(say_recipe(manifest.recipe))}{meaning}", ""]
    affine = manifest.images.affine
    names = ("red", "green", "blue") if manifest.images.channels == 3 else ("grey",)
    lines += [
        "A network's input is `scale * pixel + offset`, with pixels 0 to 255:",
        "",
        "| channel | scale | offset |",
    ]
    lines += ["|---|---|---|"]
    for name, scale, offset in zip(names, affine.scale, affine.offset, strict=True):
        lines.append(f"| {name} | {scale!r} | {offset!r} |")
    return lines


def _ledger(manifest: Manifest, stored: Mapping[str, int]) -> list[str]:
    layout = layout_of(manifest)
    pixels, labels = manifest.images.count * math.prod(layout.shape), _raw_label_bytes(manifest)
    rows: list[tuple[str, int, tuple[str, ...]]] = [("Images", pixels, ("image", "image_file"))]
    if labels:
        rows.append(("Dense labels", labels, tuple(name for name in layout.dense if name.startswith("dense_"))))
    lines = ["| | raw | in the files |", "|---|---|---|"]
    for name, raw, columns in rows:
        kept = sum(stored.get(column, 0) for column in columns)
        lines.append(f"| {name} | {size_of(raw)} | {size_of(kept)} |")
    share = f" Dense labels are {percent(labels / pixels)} of the raw pixels." if labels else ""
    return [*lines, "", f"Raw: pixels as uint8, label values as they are.{share}"]


def _raw_label_bytes(manifest: Manifest) -> int:
    """Return the bytes of all dense label values, uncompressed."""
    dense = {name: kind for name, kind in layout_of(manifest).dense.items() if name.startswith("dense_")}
    return manifest.images.count * sum(math.prod(shape) * TYPE_BYTES[kind] for shape, kind in dense.values())


def _source(manifest: Manifest) -> list[str]:
    made, source = manifest.distillation, source_dataset(manifest)
    lines = [f"- Method: {escape(made.method)}"]
    if source is not None:
        lines.append(f"- Distilled from: [{source}](https://huggingface.co/datasets/{source})")
    if made.repository:
        at = f" at commit `{escape(made.commit, 40)}`" if made.commit else ""
        lines.append(f"- Code: {escape(made.repository)}{at}")
    if made.learned_lr is not None:
        lines.append(f"- Learning rate that was learned with the images: {made.learned_lr:g}")
    for title, values in (("Read from its files", made.read), ("Said by the person who converted it", made.asserted)):
        said = [f"{escape(name)} {escape(value, 80)}" for name, value in values.items() if name != "classes"]
        if said:  # the classes have a section of their own
            lines.append(f"- {title}: {', '.join(said[:20])}")
    lines.append(f"- Pixels: {say_pixels(manifest)[2]}")
    if made.files:
        lines.append(f"- {count_of(len(made.files), 'source file')}, with checksums in `meta/ladd.json`")
    return lines


def _citation(manifest: Manifest) -> list[str]:
    if not manifest.citation:
        return []
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", manifest.citation)), default=0))
    return [f"{fence}bibtex" if manifest.citation.lstrip().startswith("@") else fence, manifest.citation.strip(), fence]
