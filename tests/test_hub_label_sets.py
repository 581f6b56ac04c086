"""Label sets on a Hub: pushed and pulled with the rest, each downloaded alone, by our reader and by `datasets`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hub_client import Hub, content
from projectors import make_backbone, make_projector

import ladd_data as ladd
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.label_writer import remove_set
from ladd_data.labeling.add import add_labels
from ladd_data.labeling.label import LabelPlan
from ladd_data.labeling.labeler import load_labeler
from ladd_data.manifest import Boxes, Full
from ladd_data.shards.folder import read_metadata

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


@pytest.fixture
def with_sets(labelled: Path, labeler: Path, tmp_path: Path) -> Path:
    """A labelled dataset with two further label sets."""
    folder = tmp_path / "with-sets"
    shutil.copytree(labelled, folder)
    for name, views in (("few", Full()), ("many", Boxes(count=30))):
        add_set(folder, labeler, name, views)
    return folder


def add_set(folder: Path, labeler: Path, name: str, views: Full | Boxes) -> None:
    plan = LabelPlan(load_labeler(labeler), views, ENCODINGS["float32"], torch.device("cpu"))
    add_labels(ladd.load(folder), plan, name)


def test_a_push_carries_label_sets_and_a_pull_brings_them_back(
    hub: Hub, repo: str, with_sets: Path, tmp_path: Path
) -> None:
    ladd.push(with_sets, repo)

    ladd.pull(repo, tmp_path / "back")

    assert content(tmp_path / "back") == content(with_sets)
    assert ladd.validate(tmp_path / "back").problems == ()


def test_a_projector_is_pushed_pulled_and_downloaded_alone(
    hub: Hub, repo: str, with_sets: Path, labeler: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    make_projector(with_sets, make_backbone(tmp_path / "backbone.safetensors"), labeler, keep=True)
    ladd.push(with_sets, repo)
    hub.log()

    data = ladd.load_online(repo, "hello")

    assert next(iter(data.loader(6))).dense is not None
    fetched = [path.name for path in (data.folder.path / "labels").glob("*/*")]
    assert "few" not in fetched and fetched.count("train-00000-of-00001.parquet") == 0
    assert fetched.count("projector.safetensors") == fetched.count("backbone.safetensors") == 1
    ladd.pull(repo, tmp_path / "back")
    assert content(tmp_path / "back") == content(with_sets)


def test_a_second_push_sends_the_new_set_alone(
    hub: Hub, repo: str, labelled: Path, labeler: Path, tmp_path: Path
) -> None:
    shutil.copytree(labelled, tmp_path / "set")
    ladd.push(tmp_path / "set", repo)
    add_set(tmp_path / "set", labeler, "new", Full())

    again = ladd.push(tmp_path / "set", repo, tag="v2")

    sent = [line.split(" ")[1] for line in again.operations if line.startswith("upload")]
    names = ("labels.json", "shards.json", "train-00000-of-00001.parquet")
    assert sent == ["README.md", *(f"labels/new/{name}" for name in names)]
    remove_set(read_metadata(tmp_path / "set"), "new")
    gone = ladd.push(tmp_path / "set", repo, tag="v3")
    assert [line for line in gone.operations if line.startswith("delete")] == [
        f"delete labels/new/{name}" for name in names
    ]
    assert ladd.load(repo, revision="v2", labels="new").view_spec == Full()


def test_a_set_is_downloaded_alone_with_the_images(hub: Hub, repo: str, with_sets: Path) -> None:
    ladd.push(with_sets, repo)
    hub.log()

    few = ladd.load(repo, labels="few")

    fetched = [line for line in hub.log() if "/resolve/" in line]
    assert any("labels/few/train-" in line for line in fetched)
    assert not any("labels/many/train-" in line for line in fetched)
    assert few.manifest == ladd.load(with_sets, labels="few").manifest
    plain = ladd.load(repo)
    assert plain.manifest == ladd.load(with_sets).manifest
    many = ladd.load(repo, labels="many")
    assert many.manifest == ladd.load(with_sets, labels="many").manifest
    dense = [next(iter(data.loader(6))).dense for data in (many, ladd.load(with_sets, labels="many"), few)]
    assert dense[0] is not None and dense[1] is not None and dense[2] is not None
    assert torch.equal(dense[0], dense[1]) and dense[2].shape == (6, 1, 3)
    with pytest.raises(ladd.UsageError, match=r'no label set "fewer". Did you mean "few"\? Known: few, many'):
        ladd.load(repo, labels="fewer")


def test_datasets_alone_downloads_one_set_by_its_name(hub: Hub, repo: str, with_sets: Path) -> None:
    ladd.push(with_sets, repo)
    hub.log()
    code = """
import datasets
d = datasets.load_dataset(sys.argv[1], "many")["train"]
print(d.num_rows, d.column_names, len(d[0]["dense_log_probs"]), d[3]["id"])
"""

    out = hub.run(code, repo)

    ids = ladd.load(with_sets).arrays.ids
    assert out.strip() == f"6 ['id', 'view_box', 'dense_log_probs', 'dense_logz'] 30 {ids[3]}"
    fetched = [line for line in hub.log() if "/resolve/" in line]
    assert any("labels/many/train" in line for line in fetched)
    assert not any("data/train" in line or "labels/few/train" in line for line in fetched)
    code = """
import datasets
d = datasets.load_dataset(sys.argv[1])["train"]
print(d.column_names, d[0]["image"].size)
print(next(iter(datasets.load_dataset(sys.argv[1], "few", streaming=True)["train"]))["id"])
"""
    assert hub.run(code, repo).splitlines() == [
        "['image', 'label', 'id', 'dense_log_probs', 'dense_logz'] (32, 32)",
        ids[0],
    ]
