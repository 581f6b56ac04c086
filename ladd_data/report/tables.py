"""The tables of a report: classes with how their labels look, the ledger, and where the dataset comes from."""

from __future__ import annotations

import json
import math

from pydantic import JsonValue

from ladd_data.card.words import flops, percent, size_of
from ladd_data.ledger import Counted, Ledger
from ladd_data.manifest import Manifest
from ladd_data.report.gather import Gathered, LabelStatistics
from ladd_data.report.markup import Child, Markup, element

MAX_ROWS = 2000
"""Classes, or source files, in a table."""
TALL = 25
"""Rows from which a table scrolls by itself."""
MAX_VALUE = 600
"""Characters of a value that a person or a file gave."""


def write_classes(manifest: Manifest, gathered: Gathered) -> Markup:
    """Return the table of classes: images of each, agreement of the labels and their entropy."""
    names, found = manifest.classes.names, gathered.statistics
    heads = ["Class", "Images"]
    if found is not None:
        heads += ["Agreement", "Entropy"]
    rows = []
    for label, name in enumerate(names[:MAX_ROWS]):
        cells: list[Child] = [
            element("th", element("span", str(label), class_="number"), " ", element("span", name), scope="row"),
            element("td", f"{gathered.counts[label]:,}", class_="figure"),
        ]
        rows.append(element("tr", *cells, *(_label_cells(found, label, len(names)) if found is not None else ())))
    cut = f" The first {MAX_ROWS} of {len(names)} classes." if len(names) > MAX_ROWS else ""
    return element(
        "section",
        element("h2", "Classes", id="classes"),
        element("p", (_say_statistics(manifest, found) if found is not None else "") + cut, class_="quiet"),
        _table(heads, rows, "classes"),
        aria_labelledby="classes",
    )


def _say_statistics(manifest: Manifest, found: LabelStatistics) -> str:
    views, classes = max(1, int(found.views.sum())), len(manifest.classes.names)
    measured = "" if found.records == manifest.images.count else f", measured on {found.records:,} images"
    return (
        f"Agreement: views whose most probable class is the hard one, {percent(int(found.agree.sum()) / views)} in all"
        f"{measured}. Entropy: how spread a view's label is, {found.entropy.sum() / views:.2f} bits on average; "
        f"0 is one class alone, {math.log2(classes):.2f} all {classes} alike."
    )


def _label_cells(found: LabelStatistics, label: int, classes: int) -> list[Markup]:
    views = int(found.views[label])
    if not views:
        return [element("td", "–"), element("td", "–")]
    agree, entropy = int(found.agree[label]) / views, abs(float(found.entropy[label])) / views
    return [
        element("td", _bar(agree, "hard"), " ", element("span", percent(agree), class_="figure")),
        element(
            "td",
            _bar(entropy / math.log2(classes) if classes > 1 else 0, "other"),
            " ",
            element("span", f"{entropy:.2f}", element("span", " bits", class_="unit"), class_="figure"),
        ),
    ]


def write_ledger(ledger: Ledger) -> Markup:
    """Return the table of what images and labels take, counted in three ways."""
    scaled = "" if ledger.zipped_records == ledger.records else f", scaled up from {ledger.zipped_records:,} images"
    counted: tuple[tuple[str, str, Counted], ...] = (
        ("Raw", "pixels as uint8 and label values as they are", ledger.raw),
        ("Zip", "the same through Deflate, as the paper counts" + scaled, ledger.zip),
        ("Stored", "in this dataset's files", ledger.stored),
    )
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(
                element("td", size_of(size), class_="figure", title=f"{size:,} bytes")
                for size in (part.images, part.dense_labels)
            ),
            element(
                "td",
                _bar(min(1.0, part.overhead), "other"),
                " ",
                element("span", percent(part.overhead), class_="figure"),
            ),
        )
        for name, _, part in counted
    ]
    notes = "; ".join(f"{name.lower()}: {note}" for name, note, _ in counted)
    work = [f"All files together: {size_of(ledger.files)}, of which {size_of(ledger.metadata)} metadata."]
    if ledger.labeling_flops is not None:
        work.append(f"Labeling took {flops(ledger.labeling_flops)}")
        training = f", training the labeler {flops(ledger.training_flops)}" if ledger.training_flops else ""
        work[-1] += training + "."
    work += [
        f"The label set {projector.name} is a projector, a network that makes labels when they are read: "
        f"{size_of(projector.stored)}, {size_of(projector.stored + projector.public)} with its public files."
        for projector in ledger.projectors
    ]
    return element(
        "section",
        element("h2", "What it costs", id="ledger"),
        _table(["Counted", "Images", "Dense labels", "Labels / images"], rows, "ledger"),
        element("p", f"{notes[0].upper()}{notes[1:]}.", class_="quiet"),
        element("p", " ".join(work), class_="quiet"),
        aria_labelledby="ledger",
    )


def write_origin(manifest: Manifest) -> Markup | None:
    """Return where the images come from: what a person said, what files said, the files, and the citation.

    None where nothing is known.
    """
    made = manifest.distillation
    parts: list[Child] = [element("h2", "Where it comes from", id="origin")]
    source = ", ".join(filter(None, (made.repository, made.commit and f"commit {made.commit}")))
    if source:
        parts.append(element("p", source))
    for title, values in (("Stated by whoever converted it", made.asserted), ("Read from files", made.read)):
        if values:
            parts += [element("h3", title), element("dl", *_pairs(values), class_="origin")]
    if made.files:
        rows = [
            element(
                "tr",
                element("th", file.path, scope="row"),
                element("td", size_of(file.bytes), class_="figure", title=f"{file.bytes:,} bytes"),
                element("td", element("code", file.sha256[:16] + "…", title=file.sha256)),
            )
            for file in made.files[:MAX_ROWS]
        ]
        parts += [element("h3", "Files it was made from"), _table(["File", "Size", "SHA-256"], rows, "source files")]
    if manifest.citation:
        parts += [element("h3", "Citation"), element("pre", manifest.citation, tabindex=0, aria_label="Citation")]
    return element("section", *parts, aria_labelledby="origin") if len(parts) > 1 else None


def _pairs(values: dict[str, JsonValue]) -> list[Markup]:
    pairs = []
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cut = text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + " …"
        pairs.append(element("div", element("dt", name), element("dd", cut)))
    return pairs


def _table(heads: list[str], rows: list[Markup], about: str) -> Markup:
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in heads)))
    return element(
        "div",
        element("table", head, element("tbody", *rows)),
        class_="scroll tall" if len(rows) > TALL else "scroll",
        tabindex=0,
        role="region",
        aria_label=f"Table of {about}",
    )


def _bar(share: float, kind: str) -> Markup:
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="{kind}" width="{100 * share:.1f}" height="8"/></svg>'
    )
