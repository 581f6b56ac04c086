"""The card: its code runs for every kind of dataset, the Hub's tools take its YAML, and it says what is true."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from building import Plan, make_draft, write_draft
from cards import code_of, run_blocks
from damaging import call
from making import CLASSES
from PIL import Image
from plainly import run_plainly

import ladd_data as ladd
from ladd_data.card.body import write_body
from ladd_data.card.croissant import CROISSANT_PATH
from ladd_data.card.header import Config, card_header, find_info, read_card_header, records_config
from ladd_data.card.merge import merge_cards
from ladd_data.card.picture import PICTURE_PATH, draw_samples
from ladd_data.card.sections import MARK, make_section, put_section, read_sections, split_card
from ladd_data.card.snippets import PLACEHOLDER, write_snippets
from ladd_data.card.write import make_card, write_face
from ladd_data.encodings.coding import decode_probs
from ladd_data.export import export_dataset
from ladd_data.manifest import Mix, Opaque
from ladd_data.shards.folder import Folder, read_metadata
from ladd_data.types import F32, Edition

CORPUS = Path(__file__).parents[1] / "spec/examples/valid"
CASES = sorted(case.name for case in CORPUS.iterdir() if "newer" not in case.name)
OTHERS: tuple[Edition, ...] = ("webdataset", "arrow")


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8")


def headings(card: str) -> list[str]:
    return [section.heading for section in read_sections(split_card(card)[1])]


# The code


def plain_code(folder: Path) -> str:
    """Return the block for `datasets` alone, of a folder, with its path in it."""
    read = read_metadata(folder)
    return code_of("\n".join(write_snippets(read.manifest, read.edition)))[0].replace(PLACEHOLDER, str(folder))


def stored_probs(folder: Path) -> F32:
    """Return the first record's labels as our own reader decodes them."""
    read = read_metadata(folder)
    labels = read.manifest.labels
    assert labels is not None
    first = next(records for _, _, records in read.records())
    return np.asarray(decode_probs(first.dense, labels.coding, len(read.manifest.classes.names))[0])


def test_plain_code_reads_every_kind_of_dataset_right(tmp_path: Path) -> None:
    folders = [CORPUS / name / "set" for name in CASES]

    seen = run_blocks([plain_code(folder) for folder in folders], tmp_path)

    for folder, found in zip(folders, seen, strict=True):
        dataset = ladd.load(folder)
        record, labels = dataset[0], dataset.manifest.labels
        assert np.array_equal(found.image, record.image.numpy()), folder
        assert (int(found.values["label"]), str(found.values["name"])) == (record.label, dataset.classes[record.label])
        assert ("soft" in found.values) == (dataset.manifest.soft is not None)
        if labels is None:
            assert "probs" not in found.values
            continue
        present = found.values.get("present", np.ones(labels.count, bool))
        assert found.probs.shape == (labels.count, len(dataset.classes)) and found.probs.dtype == np.float32, folder
        assert np.abs(found.probs[present].sum(1) - 1).max() < 2e-3, folder
        assert np.abs(found.probs - stored_probs(folder))[present].max() < 1e-6, folder
        if isinstance(labels.views, Mix | Opaque):  # mixed views take our code, opaque ones cannot be cut
            assert "crops" not in found.values
            continue
        views = dataset.views(record.image, normalize=False, index=[0])[0].numpy()
        crops = found.values["crops"].reshape(labels.count, *views.shape[2:], -1).transpose(0, 3, 1, 2)
        assert np.abs(crops.astype(np.float32) - views).max() <= 1.001, folder


@pytest.fixture(scope="module")
def editions(labelled: Path, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Each edition of a dataset with dense labels, then one without."""
    home = tmp_path_factory.mktemp("editions")
    for edition in OTHERS:
        export_dataset(ladd.load(labelled), edition, home / edition)
    return [labelled, *(home / edition for edition in OTHERS), unlabelled]


def test_every_other_block_of_a_card_runs_too(editions: list[Path], tmp_path: Path) -> None:
    for folder in editions:
        plain, *further, ours = (block.replace(PLACEHOLDER, str(folder)) for block in code_of(card_of(folder)))

        assert plain == plain_code(folder) and "import ladd_data as ladd" in ours
        for block in further:
            run_plainly(block, tmp_path / "cache")
        exec(compile(ours, "card", "exec"), {})


def test_code_for_boxes_runs_with_ours_too() -> None:
    folder = CORPUS / "boxes-flipped/set"
    read = read_metadata(folder)
    *_, ours = code_of("\n".join(write_snippets(read.manifest, read.edition)))

    exec(compile(ours.replace(PLACEHOLDER, str(folder)), "card", "exec"), {})


# The YAML


def test_datasets_verifies_splits_and_checksums_of_every_edition(editions: list[Path], tmp_path: Path) -> None:
    code = f"""import datasets
for folder in {[str(folder) for folder in editions]!r}:
    for streaming in (False, True):
        d = datasets.load_dataset(folder, verification_mode="all_checks", streaming=streaming)
        print(list(d), d["train"].info.splits["train"].num_examples, sum(1 for _ in d["train"]))"""

    assert run_plainly(code, tmp_path).splitlines() == ["['train'] 6 6"] * 8


def test_huggingface_hub_reads_and_writes_the_yaml(editions: list[Path]) -> None:
    for folder in editions:
        data: Any = huggingface_hub.DatasetCard(card_of(folder)).data

        manifest = read_metadata(folder).manifest
        assert data.pretty_name == manifest.name and data.to_dict()["ladd"]["digest"] == manifest.digest
        assert (data.size_categories, data.task_categories) == (["n<1K"], ["image-classification"])
        again: Any = huggingface_hub.DatasetCardData(**data.to_dict())
        assert again.to_dict() == data.to_dict() == read_card_header(card_of(folder))


def changed(folder: Path, **update: object) -> Folder:
    read = read_metadata(folder)
    return replace(read, manifest=read.manifest.model_copy(update=update))


@pytest.mark.parametrize(
    ("stated", "keys"),
    [
        (None, {}),
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("mit", {"license": "mit"}),
        ("Only on\nTuesdays", {"license": "other", "license_name": "Only on Tuesdays"}),
    ],
)
def test_a_licence_is_one_of_the_hubs_or_other(labelled: Path, stated: str | None, keys: dict[str, str]) -> None:
    card = make_card(changed(labelled, license=stated), 0)

    header = read_card_header(card)
    assert {key: value for key, value in header.items() if key.startswith("license")} == keys
    assert ("No licence is stated" in card) == (stated is None)


def test_the_source_is_named_where_the_class_list_says_it(labelled: Path) -> None:
    folder = changed(labelled, classes=ladd.Classes(names=CLASSES.names, source="imagenet-1k"))

    assert read_card_header(make_card(folder, 0))["source_datasets"] == ["ILSVRC/imagenet-1k"]
    assert "source_datasets" not in read_card_header(card_of(labelled))


def test_tags_say_soft_labels_only_where_there_are_some(labelled: Path, unlabelled: Path) -> None:
    with_some, without = (read_card_header(card_of(folder))["tags"] for folder in (labelled, unlabelled))

    assert "soft-labels" in with_some and "soft-labels" not in without
    assert "dataset-distillation" in without and "ladd-1.0" in without


def test_further_tables_are_configs_of_their_own(labelled: Path) -> None:
    read = read_metadata(labelled)
    more = Config("labels-big", [{"name": "id", "dtype": "string"}], "labels/big/*.parquet", 6, 100, 50)
    header = card_header(read.manifest, [records_config(read.manifest, read.edition, 10, 5), more])

    assert [config["config_name"] for config in header["configs"]] == ["default", "labels-big"]
    assert [info["config_name"] for info in header["dataset_info"]] == ["default", "labels-big"]
    assert find_info(header)["splits"][0]["num_examples"] == 6
    assert find_info({"dataset_info": {"a": 1}}) == {"a": 1} and find_info({"dataset_info": [1]}) is None


def test_a_card_of_several_tables_is_right_of_the_records(labelled: Path, tmp_path: Path) -> None:
    folder = read_metadata(Path(shutil.copytree(labelled, tmp_path / "set")))
    more = Config("labels-big", [{"name": "id", "dtype": "string"}], "labels/big/*.parquet", 6, 100, 50)

    write_face(folder, 10, [more])

    assert {problem.clause for problem in ladd.validate(folder.path).problems} == {"LADD-097"}  # no such set is there


# The text


def test_a_labelled_card_says_everything(labelled: Path) -> None:
    card = card_of(labelled)

    assert headings(card) == [
        "# tiny",
        "## Load it",
        "## Columns",
        "## Classes",
        "## Views",
        "## Labeler",
        "## How exact the labels are",
        "## How to train on it",
        "## What it costs",
        "## Where it comes from",
        "## Known limits",
    ]
    for words in ("5x5 grid of crops", "convnet-d3", "total variation", "cross-entropy", "samples.png"):
        assert words in card


@pytest.mark.parametrize("name", CASES)
def test_no_section_is_empty_and_every_number_is_said(name: str) -> None:
    folder = read_metadata(CORPUS / name / "set")

    sections = write_body(folder.manifest, folder.edition, folder.column_bytes(), None, [])

    assert all(any(line.strip() for line in section.lines) and section.made for section in sections)
    text = "\n".join(section.text() for section in sections)
    words = re.sub("```.*?```", "", text, flags=re.DOTALL)
    assert folder.manifest.digest in words and "None" not in words and "{" not in words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zca", "ZCA-whitened"),
        ("views-missing-float16", "Some views have no label"),
        ("labels-q4", "rounded to 4 bits"),
        ("labels-paper", "Logits cannot be had"),
        ("unlabelled", "There are no dense labels"),
        ("range", "Colours are stretched"),
        ("labels-reencoded", "Which network made the dense labels is not known"),
        ("labels-topk", "the others share what is left in equal parts"),
    ],
)
def test_known_limits_are_those_of_the_dataset(name: str, words: str) -> None:
    def limits(case: str) -> str:
        folder = read_metadata(CORPUS / case / "set")
        sections = write_body(folder.manifest, folder.edition, {}, None, [])
        return next(section.text() for section in sections if section.heading == "## Known limits")

    assert words in limits(name)
    assert words not in limits("labels-logits-float32")


def test_costs_are_those_of_the_ledger(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", labelled, "--json") == 0
    ledger = json.loads(capsys.readouterr().out)["ledger"]

    text = card_of(labelled).replace("kB", "").replace(",", "")
    row = re.search(r"\| Images \| ([\d.]+)  \| ([\d.]+)  \|\n\| Dense labels \| ([\d.]+)  \| ([\d.]+)", text)
    assert row is not None
    stated = [float(number) * 1000 for number in row.groups()]
    true = [ledger[kind][part] for part in ("images", "dense_labels") for kind in ("raw", "stored")]
    assert stated == pytest.approx(true, rel=0.05)


def test_many_classes_are_folded_and_very_many_cut(labelled: Path) -> None:
    def text(count: int) -> str:
        names = tuple(f"class {number}" for number in range(count))
        labels = read_metadata(labelled).manifest.labels
        assert labels is not None
        folder = changed(labelled, classes=ladd.Classes(names=names), labels=None)
        return next(
            section.text()
            for section in write_body(folder.manifest, folder.edition, {}, None, [])
            if section.heading == "## Classes"
        )

    assert "<details>" not in text(20) and "19 class 19" in text(20)
    assert "<details>" in text(1000) and "999 class 999" in text(1000)
    assert "999 class 999" in text(2000) and "1999" not in text(2000) and "meta/ladd.json" in text(2000)


def test_names_that_are_markup_stay_text(labelled: Path) -> None:
    names = ("<script>alert(1)</script>", "a | b", "x\n## Load it\n[y](http://z) `q` **b**")
    made = read_metadata(labelled).manifest.distillation.model_copy(update={"method": "<b>|x|"})
    folder = changed(labelled, classes=ladd.Classes(names=names), citation="```\n# no heading\n", distillation=made)

    picture = draw_samples(read_metadata(labelled))
    body = split_card(make_card(folder, 0, picture))[1]

    assert headings(make_card(folder, 0))[:2] == ["# tiny", "## Load it"]
    assert headings(make_card(folder, 0))[-1] == "## Citation" and "````\n```\n# no heading\n````" in body
    outside = re.sub("````.*?````|```.*?```", "", body, flags=re.DOTALL)
    live = re.sub(r"\\.", "", outside)  # what is not escaped
    assert not re.search(r"<script|<b>|\]\(http|`q`|\*\*b", live) and "a \\| b" in outside


# The picture


def test_the_picture_is_the_same_for_every_edition_and_every_run(editions: list[Path], tmp_path: Path) -> None:
    files = [(folder / PICTURE_PATH).read_bytes() for folder in editions[:3]]

    again = draw_samples(read_metadata(editions[0]))

    assert again is not None and len({*files, again.file}) == 1
    picture = np.asarray(Image.open(io.BytesIO(files[0])))
    first = ladd.load(editions[0])[0].image.numpy().transpose(1, 2, 0)
    assert np.array_equal(picture[:96:3, :96:3], first)  # each pixel thrice


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_dataset_has_a_picture_and_small(name: str) -> None:
    picture = draw_samples(read_metadata(CORPUS / name / "set"))

    assert picture is not None and len(picture.file) < 300_000
    Image.open(io.BytesIO(picture.file)).verify()


@pytest.mark.parametrize("size", [1, 32, 113, 224, 600])
def test_pictures_of_all_sizes_are_drawn(size: int, tmp_path: Path) -> None:
    write_draft(make_draft(Plan(height=size, width=max(1, size // 2), count=3)), tmp_path / "set")

    picture = draw_samples(read_metadata(tmp_path / "set"))

    assert picture is not None
    width, height = Image.open(io.BytesIO(picture.file)).size
    assert width <= 1200 and height <= 400


# People's sections


def test_what_the_tools_no_longer_write_goes_and_what_people_wrote_stays(labelled: Path, unlabelled: Path) -> None:
    mine = "## How we chose\n\nBy hand.\n"
    old = card_of(labelled).replace("## Classes\n", f"{mine}\n## Classes\n")

    merged = merge_cards(card_of(unlabelled), old)

    assert merged.endswith(mine) and "## Labeler" not in merged and "knowledge-distillation" not in merged
    assert merge_cards(card_of(unlabelled), merged) == merged


def test_a_section_without_its_mark_is_a_persons(labelled: Path, unlabelled: Path) -> None:
    old = card_of(labelled).replace(f"## Known limits\n{MARK}\n", "## Known limits\n\nNone that we know of.\n")

    merged = merge_cards(card_of(unlabelled), old)

    assert merged.count("## Known limits") == 1 and "None that we know of." in merged
    assert "There are no dense labels." not in merged


def test_what_is_no_heading_makes_no_section() -> None:
    body = "# a\n\n~~~\n## no\n```\n## no\n~~~\n\n````\n```\n## no\n````\n## b\ntext\n"

    assert [section.heading for section in read_sections(body)] == ["# a", "## b"]


def test_results_are_put_in_replaced_and_dropped(labelled: Path) -> None:
    card = put_section(card_of(labelled), make_section("Results", ["| network | accuracy |", "|---|---|", "| a | 1 |"]))
    again = put_section(card, make_section("Results", ["none"]))

    assert headings(card)[-2:] == ["## Results", "## Known limits"]
    assert read_card_header(card) == read_card_header(card_of(labelled))
    assert "| a | 1 |" in card and "| a | 1 |" not in again and headings(again) == headings(card)
    assert "## Results" not in merge_cards(card_of(labelled), card)
    by_hand = card_of(labelled) + "\n## Results\n\nGood.\n"
    assert put_section(by_hand, make_section("Results", ["other"])) == by_hand


def test_the_card_that_is_written_reads_back_as_its_sections(labelled: Path) -> None:
    text = card_of(labelled)

    assert all(section.made for section in read_sections(split_card(text)[1]))
    assert put_section(text, read_sections(split_card(text)[1])[3]) == text


def test_a_dataset_has_one_face_whatever_way_it_came(labelled: Path, tmp_path: Path) -> None:
    export_dataset(ladd.load(labelled), "webdataset", tmp_path / "tar")
    export_dataset(ladd.load(tmp_path / "tar"), "parquet", tmp_path / "back")

    for name in ("README.md", PICTURE_PATH, CROISSANT_PATH):
        assert (tmp_path / "back" / name).read_bytes() == (labelled / name).read_bytes()
