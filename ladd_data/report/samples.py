"""The samples of a report: pictures by class, and the inspector that shows their views and labels."""

from __future__ import annotations

import base64
from itertools import groupby
from typing import Any

from ladd_data.card.words import say_view_kind
from ladd_data.manifest import Grid, Manifest
from ladd_data.report.gather import TOP, BoxList, Gathered, Shown, draws_soft
from ladd_data.report.markup import Markup, element

PIXELATED = 64
"""Images of sides up to this are enlarged pixel by pixel."""
MAX_COLUMNS = 12
STRIP = 10
"""Pictures at the top of the page, one a class."""
STRIP_BYTES = 1_000_000
FEW = 3
"""Images per class up to which classes stand beside each other."""


def write_samples(manifest: Manifest, gathered: Gathered) -> Markup:
    """Return the section of pictures; with the inspector where there are soft labels to look at."""
    has_labels = manifest.labels is not None or draws_soft(manifest.soft)
    rows = [
        _write_row(manifest, gathered, label, list(shown))
        for label, shown in groupby(enumerate(gathered.shown), key=lambda numbered: numbered[1].label)
    ]
    few = " few" if gathered.per_class <= FEW else ""
    sharp = " sharp" if max(manifest.images.height, manifest.images.width) <= PIXELATED else ""
    grid = element("div", *rows, class_=f"classes{few}{sharp}", id="samples-grid")
    return element(
        "section",
        element("h2", "Samples and their labels" if has_labels else "Samples", id="samples"),
        element("p", say_sampling(manifest, gathered), class_="quiet"),
        element("div", _write_inspector(manifest, sharp), grid, class_="explore") if has_labels else grid,
        aria_labelledby="samples",
    )


def write_strip(manifest: Manifest, gathered: Gathered) -> Markup:
    """Return a row of pictures, of different classes as far as there are, to see what the dataset is."""
    firsts = [next(shown) for _, shown in groupby(gathered.shown, key=lambda one: one.label)]
    few = [firsts[len(firsts) * place // STRIP] for place in range(STRIP)] if len(firsts) > STRIP else firsts
    most = max(1, STRIP_BYTES // max(len(one.file) for one in few))
    pictures = [_write_picture(manifest, one, manifest.classes.names[one.label]) for one in few[:most]]
    sharp = " sharp" if max(manifest.images.height, manifest.images.width) <= PIXELATED else ""
    return element("div", *pictures, class_=f"strip{sharp}", role="group", aria_label="Some of its images")


def say_sampling(manifest: Manifest, gathered: Gathered) -> str:
    """Return how many of the images are on the page."""
    shown, all_of = len(gathered.shown), manifest.images.count
    if shown == all_of:
        return "Every image of the dataset, by class." if all_of > 1 else "The one image of the dataset."
    classes = len({one.label for one in gathered.shown})
    have = int((gathered.counts > 0).sum())
    spread = f"{classes} of {have} classes" if classes < have else "each class"
    first = "image" if gathered.per_class == 1 else f"{gathered.per_class} images"
    return f"A sample: {shown:,} of {all_of:,} images, the first {first} of {spread}."


def write_data(manifest: Manifest, gathered: Gathered, shared: BoxList | None) -> dict[str, Any]:
    """Return what the page's script needs: boxes, labels and the names of the classes in them."""
    used = {int(label) for one in gathered.shown for view in one.labels if view for label in view[2::2]}
    used |= {one.label for one in gathered.shown}
    return {
        "size": [manifest.images.width, manifest.images.height],
        "names": {label: manifest.classes.names[label] for label in sorted(used)},
        "views": manifest.labels.count if manifest.labels is not None else 0,
        "boxes": shared,
        "records": [
            {"id": one.id, "label": one.label, "views": one.labels}
            | ({"boxes": one.boxes} if one.boxes is not None else {})
            | ({"flips": one.flips} if one.flips is not None else {})
            for one in gathered.shown
        ],
    }


def _write_row(manifest: Manifest, gathered: Gathered, label: int, shown: list[tuple[int, Shown]]) -> Markup:
    name, count = manifest.classes.names[label], int(gathered.counts[label])
    said = None if len(shown) == count else element("span", f"{len(shown)} of {count:,}", class_="count")
    return element(
        "div",
        element("h3", element("span", name, class_="name", title=name), " ", said),
        element("div", *(_write_thumb(manifest, number, one, name) for number, one in shown), class_="thumbs"),
        class_="class",
    )


def _write_thumb(manifest: Manifest, number: int, one: Shown, name: str) -> Markup:
    picture = _write_picture(manifest, one, f"{name}, image {one.id}")
    if not one.labels:
        return element("span", picture, class_="thumb")
    reach = 0 if number == 0 else -1  # one stop for the tab key; arrow keys move on
    return element("button", picture, type="button", class_="thumb", tabindex=reach)


def _write_picture(manifest: Manifest, one: Shown, alt: str) -> Markup:
    images = manifest.images
    return element(
        "img",
        src=f"data:image/{images.encoding};base64,{base64.b64encode(one.file).decode()}",
        width=images.width,
        height=images.height,
        alt=alt,
        decoding="async",
    )


def _write_inspector(manifest: Manifest, sharp: str) -> Markup:
    """Return the inspector, filled by the script; its parts have their sizes from the start."""
    width, height, labels = manifest.images.width, manifest.images.height, manifest.labels
    ring = f"0 0 {width} {height}"
    columns = labels.views.n if labels is not None and isinstance(labels.views, Grid) else 0
    stage = element(
        "div",
        element("img", id="picture", width=width, height=height, alt="", src=_EMPTY),
        Markup(
            f'<svg id="crop" viewBox="{ring}" preserveAspectRatio="none" aria-hidden="true">'
            '<path class="shade" fill-rule="evenodd"/><rect class="under"/><rect class="edge"/></svg>'
        ),
        class_=f"stage{sharp}",
    )
    views = element(
        "div",
        id="views",
        role="group",
        aria_label="Views; arrow keys move",
        data_columns=columns if 1 < columns <= MAX_COLUMNS else None,
    )
    bars = [
        element("li", *(element("span", class_=part) for part in ("who", "track", "much")))
        for _ in range(min(TOP + 2, len(manifest.classes.names)))
    ]
    kind = f"Each square is a view: {say_view_kind(labels)}. " if labels is not None else ""
    return element(
        "div",
        element("p", id="which", class_="which"),
        element("div", stage, views, class_="look"),
        element("p", id="said", class_="said", role="status"),
        element("ol", *bars, id="bars"),
        element("p", kind, "The more orange, the more of its label goes to the hard class.", class_="quiet legend"),
        element("noscript", element("p", "The rectangles and bars of views need JavaScript; all else is here.")),
        id="inspector",
        class_="card",
        role="region",
        aria_label="The chosen image, its views and their labels",
    )


_EMPTY = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
