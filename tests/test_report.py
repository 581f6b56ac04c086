"""The report: one file, escaped, sampled and said so, the same for the same dataset, and alive in a browser."""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import open_page
from making import label, make_distilled, make_labeler

from ladd_data import Classes, DatasetError
from ladd_data.convert import convert, prepare
from ladd_data.report import gather as gathering
from ladd_data.report.markup import data_block, element
from ladd_data.report.page import write_report
from ladd_data.shards.folder import read_metadata
from ladd_data.views.geometry import boxes, grid

if TYPE_CHECKING:
    from playwright.sync_api import Page

CORPUS = Path(__file__).parents[1] / "spec" / "examples" / "valid"
HOSTILE = Classes(
    names=("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</script><b>&amp; " + "x" * 90)
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled dataset whose class names are markup."""
    home = tmp_path_factory.mktemp("hostile")
    convert(prepare(replace(make_distilled(), classes=HOSTILE), "hostile"), home / "set")
    return label(home / "set", make_labeler(home / "w.safetensors", HOSTILE), home / "ladd")


def report_of(directory: Path, tmp_path: Path, name: str = "report.html") -> str:
    write_report(directory, tmp_path / name)
    return (tmp_path / name).read_text("utf-8")


def data_of(page: str) -> dict[str, Any]:
    """Return what the page gives its script."""
    found = re.search(r'<script type="application/json" id="ladd-data">(.*?)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_text_and_attributes_are_escaped() -> None:
    assert element("p", "<b>", title='"&') == '<p title="&quot;&amp;">&lt;b&gt;</p>'
    assert "</script><" not in data_block("x", ["</script><script>"])[:-9]


def test_class_names_that_are_markup_stay_text(hostile: Path, tmp_path: Path) -> None:
    page = report_of(hostile, tmp_path)

    assert "<script>alert" not in page and "<img src=x" not in page and "</script><b>" not in page
    assert html.escape(HOSTILE.names[0]) in page
    assert set(data_of(page)["names"].values()) <= set(HOSTILE.names)


def test_nothing_is_fetched_and_the_policy_forbids_it(labelled: Path, tmp_path: Path) -> None:
    page = report_of(labelled, tmp_path)

    assert "default-src 'none'; img-src data:;" in page
    assert all(url.startswith("data:") for url in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "style=" not in page and not re.search(r"url\(|@import| on[a-z]+=", page)


def test_equal_datasets_give_equal_bytes(labelled: Path, tmp_path: Path) -> None:
    assert report_of(labelled, tmp_path) == report_of(labelled, tmp_path, "again.html")


def test_the_snippets_are_the_cards(labelled: Path, tmp_path: Path) -> None:
    card = re.findall(r"```python\n(.*?)\n```", (labelled / "README.md").read_text("utf-8"), re.DOTALL)

    page = report_of(labelled, tmp_path)

    assert [html.unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)] == card


def test_images_are_the_stored_files_and_boxes_those_of_the_spec(labelled: Path, tmp_path: Path) -> None:
    page = report_of(labelled, tmp_path)

    stored = {bytes(image) for _, _, records in read_metadata(labelled).records() for image in records.images}
    assert {base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", page)} == stored
    expected = [[box.y, box.x, box.height, box.width] for box in boxes(grid(5), 32, 32)]
    assert data_of(page)["boxes"] == expected


def test_the_trust_box_says_the_certificate_in_words(labelled: Path, tmp_path: Path) -> None:
    page = html.unescape(report_of(labelled, tmp_path))

    labels = read_metadata(labelled).manifest.labels
    assert labels is not None
    assert f"differ from the labeler's by total variation {labels.certificate.mean_tv:.2g} on average" in page
    assert "right on 50 % of held-out images" in page
    assert "of all 6 records" in page
    assert read_metadata(labelled).manifest.digest in page


def test_the_top_shows_an_image_of_each_class_and_what_to_look_at(labelled: Path, tmp_path: Path) -> None:
    page = html.unescape(report_of(labelled, tmp_path))

    top = page[: page.index("Can you trust it?")]
    assert re.findall(r'alt="([^"]*)"', top) == ["ant", "bee", "cat"]
    assert re.search(r"Every check passed. Worth a look before you rely on it: [a-z, ]*licence\.", page)
    agree = float(re.findall(r"([0-9.]+) % of views have the image's own class on top", page)[0])
    assert f"hard one, {agree:g} % in all" in page and "by chance it would be 33.3 %" in page


def test_a_large_dataset_is_sampled_and_says_so(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MAX_SHOWN", 3)

    page = report_of(labelled, tmp_path)

    assert "A sample: 3 of 6 images, the first image of each class." in page
    assert [record["label"] for record in data_of(page)["records"]] == [0, 1, 2]


def test_statistics_of_a_large_dataset_are_measured_on_some_images_of_each_class(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MAX_VALUES", 6 * 25 * 3 // 2)

    assert "measured on 3 images" in report_of(labelled, tmp_path)


def test_an_invalid_dataset_has_no_report(labelled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in labelled.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(labelled)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    shard = next((copy / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")

    with pytest.raises(DatasetError):
        write_report(copy, tmp_path / "report.html")

    assert not (tmp_path / "report.html").exists()


KINDS = [
    "unlabelled",
    "jpeg-labelled",
    "jpeg-arrow",
    "tar-boxes-flipped",
    "boxes-missing",
    "full-view",
    "views-missing-q4",
]
KINDS += [
    "soft-probs",
    "soft-logits",
    "soft-targets",
    "soft-and-dense",
    "greyscale-labelled",
    "labels-topk",
    "not-square",
]
KINDS += ["zca", "one-record", "labels-reencoded", "optional-fields-absent"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_dataset_has_a_page(kind: str, tmp_path: Path) -> None:
    data = data_of(report_of(CORPUS / kind / "set", tmp_path))

    manifest = read_metadata(CORPUS / kind / "set").manifest
    soft = manifest.soft is not None and manifest.soft.space != "targets"
    views = (manifest.labels.count if manifest.labels else 0) + soft
    assert len(data["records"]) == manifest.images.count
    for record in data["records"]:
        assert len(record["views"]) == views
        assert not views or len(record.get("boxes") or data["boxes"]) == views


def visit(page: Page, path: Path, errors: list[str]) -> None:
    """Open a report; complaints of the browser and requests for anything but the file go to `errors`."""
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("data:", "file:")) else errors.append(asked.url))
    page.goto(path.as_uri())


CONTRAST = """() => {
  const light = (color) => color.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return ['h1', '.quiet', '.kicker', '.lede', 'dt'].map((name) => {
    const ink = light(getComputedStyle(document.querySelector(name)).color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
}"""


def test_in_a_browser_the_keyboard_reaches_every_view_and_a_view_shows_its_rectangle_and_bars(
    hostile: Path, tmp_path: Path
) -> None:
    errors: list[str] = []
    data = data_of(report_of(hostile, tmp_path))
    with open_page() as page:
        page.set_viewport_size({"width": 360, "height": 740})
        visit(page, tmp_path / "report.html", errors)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        began = page.evaluate("[...document.querySelectorAll('#views button')].findIndex((b) => b.tabIndex === 0)")
        page.locator("button.thumb").first.focus()
        for key in ("ArrowRight", "Enter", "Home", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)

        focused = page.evaluate("[...document.activeElement.parentNode.children].indexOf(document.activeElement)")
        edge = page.locator("#crop .edge")
        shown = [float(edge.get_attribute(name) or -1) for name in ("y", "x", "height", "width")]
        bars = page.locator("#bars li:not(.none)")
        first_name, first_share = bars.first.locator(".who").inner_text(), bars.first.locator(".much").inner_text()
        record = data["records"][1]
        assert page.locator("#which").inner_text().endswith(record["id"])
        page.locator("#views button").nth(24).hover()
        hovered = edge.get_attribute("x")
        page.emulate_media(color_scheme="light")
        light = (page.evaluate(CONTRAST), page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.emulate_media(color_scheme="dark")
        dark = (page.evaluate(CONTRAST), page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert errors == []
    sure = [view[1] for view in data["records"][0]["views"]]
    assert sure[began] == max(sure)
    assert shown == data["boxes"][focused] and focused == 6
    assert first_name == data["names"][str(record["views"][6][2])]
    assert first_share == f"{100 * record['views'][6][3]:.1f} %"
    assert hovered == str(data["boxes"][24][1])
    assert light[1] != dark[1]
    assert min(light[0] + dark[0]) >= 4.5
