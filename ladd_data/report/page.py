"""`report.html`: one file that shows what a dataset is, whether to trust it and how to use it; nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ladd_data.card.snippets import PLACEHOLDER, write_snippets
from ladd_data.card.words import say_facts, say_recipe, say_summary, say_trust, say_verdict
from ladd_data.errors import DatasetError
from ladd_data.files import write_atomically
from ladd_data.ledger import Ledger, count_ledger
from ladd_data.report.gather import Gathered, gather, grid_boxes
from ladd_data.report.markup import Markup, data_block, element, join
from ladd_data.report.samples import write_data, write_samples, write_strip
from ladd_data.report.tables import write_classes, write_ledger, write_origin
from ladd_data.shards.folder import Folder, read_metadata
from ladd_data.shards.joined import read_joined, set_of
from ladd_data.validation import Report, validate

FULL_CHECK_BYTES = 2**28
"""Datasets of at most this many bytes are checked record by record; of larger ones, checksums and columns."""
ZIP_BYTES = 24 * 2**20
"""Raw bytes of images that are zipped for the ledger: enough to tell, and a page takes seconds."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a report says of its size: images shown, of how many."""

    shown: int
    images: int


def write_report(directory: Path, path: Path, labels: str | None = None) -> Written:
    """Validate a dataset and write its report; equal datasets give equal bytes.

    `labels`: the label set that is shown in place of the labels in the records.

    Raises:
        UsageError: there is no such folder, or it is no ladd dataset.
        DatasetError: the dataset is not valid; everything that was found.
    """
    size = sum(shard.bytes for shard in read_metadata(directory).shards)
    checked = validate(directory, "full" if size <= FULL_CHECK_BYTES else "structure")
    if not checked.valid:
        raise DatasetError(checked.problems)
    folder = read_joined(directory, labels)
    gathered = gather(folder)
    page = make_page(folder, gathered, count_ledger(folder, ZIP_BYTES), checked)
    write_atomically(path, page.encode())
    return Written(len(gathered.shown), folder.manifest.images.count)


def make_page(folder: Folder, gathered: Gathered, ledger: Ledger, checked: Report) -> str:
    """Return the page: HTML whose style and script are its own and whose policy forbids any other."""
    manifest = folder.manifest
    style = Markup(files(__package__).joinpath("page.css").read_text("utf-8"))
    script = Markup(files(__package__).joinpath("page.js").read_text("utf-8"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content="ladd view"),
        element("title", f"{manifest.name}: a distilled dataset"),
        element("style", style),
    )
    ipc = _say_ipc(gathered)
    main = element(
        "main",
        _header(folder, gathered, ipc),
        element("div", _trust(folder, gathered, checked), _use(folder), class_="pair"),
        write_samples(manifest, gathered),
        write_classes(manifest, gathered),
        write_ledger(ledger),
        write_origin(manifest),
    )
    data = data_block("ladd-data", write_data(manifest, gathered, grid_boxes(manifest)))
    body = element("body", main, _footer(manifest.digest), data, element("script", script))
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _say_ipc(gathered: Gathered) -> str:
    least, most = int(gathered.counts.min()), int(gathered.counts.max())
    return str(least) if least == most else f"{least} to {most}"


def _header(folder: Folder, gathered: Gathered, ipc: str) -> Markup:
    manifest = folder.manifest
    facts = say_facts(manifest, folder.edition, ipc)
    return element(
        "header",
        element("p", "Distilled dataset", class_="kicker"),
        element("h1", manifest.name),
        element("p", say_summary(manifest, ipc), class_="lede"),
        write_strip(manifest, gathered),
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", value)) for name, value in facts.items()),
            class_="facts",
        ),
    )


def _trust(folder: Folder, gathered: Gathered, checked: Report) -> Markup:
    signs = {"good": ("✓", "Good: "), "look": ("!", "Look: "), "fact": ("·", "")}
    said = say_trust(folder.manifest, checked.level, checked.records, gathered.agreement)
    items = [
        element(
            "li",
            element("span", signs[mark][0], class_="sign", aria_hidden="true"),
            element("div", element("strong", element("span", signs[mark][1], class_="unseen"), about), " ", words),
            class_=mark,
        )
        for mark, about, words in said
    ]
    return element(
        "section",
        element("h2", "Can you trust it?", id="trust"),
        element("p", say_verdict(said), class_="verdict"),
        element("ul", *items, class_="marks"),
        element("p", "Check again: ", element("code", "ladd validate DIR"), " · Digest", class_="quiet"),
        element("code", folder.manifest.digest, class_="digest"),
        aria_labelledby="trust",
        class_="card",
    )


def _use(folder: Folder) -> Markup:
    blocks = code_blocks(write_snippets(folder.manifest, folder.edition))
    if (name := set_of(folder)) is not None:  # plain libraries do not join a set's labels with the images
        ours = f'ladd.load("{PLACEHOLDER}"'
        blocks = [block.replace(ours, f'{ours}, labels="{name}"') for block in blocks if ours in block]
    return element(
        "section",
        element("h2", "How to use it", id="use"),
        element("p", "Made for training with ", say_recipe(folder.manifest.recipe), class_="verdict"),
        *(
            join(element("h3", title), element("pre", element("code", block), tabindex=0, aria_label=title))
            for title, block in ((_title_of(block), block) for block in blocks)
        ),
        element("p", "PATH_OR_REPO or PATH: the dataset's folder, or its name on the Hub, user/repo.", class_="quiet"),
        aria_labelledby="use",
        class_="card",
    )


def code_blocks(lines: list[str]) -> list[str]:
    """Return the Python blocks of Markdown."""
    blocks = "\n".join(lines).split("```python\n")[1:]
    return [block.split("\n```", 1)[0] for block in blocks]


def _title_of(block: str) -> str:
    names = {"ladd_data": "With ladd-data", "webdataset": "With webdataset", "pyarrow": "With pyarrow alone"}
    return next((title for name, title in names.items() if f"import {name}" in block), "With datasets alone")


def _footer(digest: str) -> Markup:
    return element(
        "footer",
        element(
            "p", "Written by ", element("code", "ladd view"), f" from dataset {digest[:12]}. One file, no network."
        ),
    )
