"""Label sets by the command line: added, listed, carried along, published, fetched one by one, removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_client import Hub, content
from projectors import make_backbone, make_projector

import ladd_data as ladd
from ladd_data.card.header import read_card_header
from ladd_data.cli import main
from ladd_data.files import sha256_file
from ladd_data.manifest import Coding
from ladd_data.reencode import reencode_dataset, reencode_set
from ladd_data.shards.label_sets import list_sets

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
Ladd = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ladd:
    """Call the command line in this process; returns the JSON it prints, or with `code` the code and all it said."""

    def call(*arguments: object, code: int = 0) -> Any:
        words = [str(word) for word in arguments] + (["--json"] if code == 0 and arguments[0] != "validate" else [])
        monkeypatch.setattr("sys.argv", ["ladd", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert int(stop.value.code or 0) == code, said
        return said.out + said.err if code or arguments[0] == "validate" else json.loads(said.out)

    return call


@pytest.fixture
def exact(unlabelled: Path, labeler: Path, tmp_path: Path, run: Ladd) -> Path:
    """A dataset with float32 labels in its records and two sets: float32 labels of random crops, q8 of whole images."""
    folder = tmp_path / "exact"
    run("label", unlabelled, "--labeler", labeler, "--encoding", "float32", "-o", folder)
    run("label", folder, "--labeler", labeler, "--boxes", 4, "--flip", "--encoding", "float32", "--as", "crops")
    run("label", folder, "--labeler", labeler, "--full", "--encoding", "q8", "--as", "whole")
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the two that a push writes the repository's name into."""
    named = ("README.md", "croissant.json")
    names = [path for path in folder.rglob("*") if path.is_file() and path.name not in named]
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in names}


def sets_of(folder: Path, name: str) -> dict[str, bytes]:
    return content(folder / "labels" / name)


def dense(folder: Path, name: str | None = None, rows: int = 6) -> np.ndarray[Any, np.dtype[np.float32]]:
    (batch,) = ladd.load(folder, labels=name).loader(rows)
    assert batch.dense is not None
    return batch.dense.numpy()


def test_sets_are_added_listed_published_fetched_one_by_one_and_removed(
    hub: Hub, repo: str, exact: Path, tmp_path: Path, run: Ladd
) -> None:
    images = {name: digest for name, digest in digests(exact).items() if not name.startswith("labels/")}
    run("reencode", exact, "--labels", "crops", "--encoding", "q4", "--as", "small")
    run("push", exact, repo)

    rows = run("labels", repo)["labels"]
    assert [row["name"] for row in rows] == ["default", "crops", "small", "whole"]
    assert [row | {"bytes": None} for row in run("labels", exact)["labels"]] == rows
    assert not any("/train-" in line for line in hub.log() if "/resolve/" in line)

    run("pull", repo, tmp_path / "one", "--labels", "small")
    fetched = [line for line in hub.log() if "/resolve/" in line]
    assert any("labels/small/train-" in line for line in fetched)
    assert not any("labels/crops/train-" in line or "labels/whole/train-" in line for line in fetched)
    assert list_sets(tmp_path / "one") == ["small"]
    assert sets_of(tmp_path / "one", "small") == sets_of(exact, "small")
    run("pull", repo, tmp_path / "none", "--labels", "default")
    assert not (tmp_path / "none" / "labels").exists() and digests(tmp_path / "none") == images
    run("pull", repo, tmp_path / "all")
    assert content(tmp_path / "all") == content(exact)
    for name in ("one", "none", "all"):
        assert ladd.validate(tmp_path / name).problems == ()

    for name in ("small", "whole", "crops"):
        run("labels", exact, "--remove", name)
        run("push", exact, repo)
    assert digests(exact) == images and not any(name.startswith("labels/") for name in hub.files(repo))


def test_datasets_has_the_columns_of_each_set_from_the_card(hub: Hub, repo: str, exact: Path, run: Ladd) -> None:
    run("reencode", exact, "--labels", "crops", "--encoding", "topk", "--top-k", 2, "--as", "few")
    run("push", exact, repo)
    code = """
import datasets, sys
for place in sys.argv[1:]:
    for name in datasets.get_dataset_config_names(place):
        info = datasets.load_dataset_builder(place, name).info
        d = datasets.load_dataset(place, name)["train"]
        assert d.features == info.features and d.num_rows == info.splits["train"].num_examples == 6, (name, info)
        print(name, sorted(d.features), d.features["label"].names if "label" in d.features else "")
"""

    lines = hub.run(code, repo, str(exact)).splitlines()

    assert lines[:4] == [
        "default ['dense_log_probs', 'dense_logz', 'id', 'image', 'label'] ['ant', 'bee', 'cat']",
        "crops ['dense_log_probs', 'dense_logz', 'id', 'view_box', 'view_flip'] ",
        "few ['dense_logz', 'dense_tail_log_prob', 'dense_topk_ids', 'dense_topk_log_probs', "
        "'id', 'view_box', 'view_flip'] ",
        "whole ['dense_logz', 'dense_q8', 'dense_q8_scale', 'id'] ",
    ]
    assert lines[4:] == lines[:4]


def test_a_set_alone_is_fetched_without_the_images(hub: Hub, repo: str, exact: Path, run: Ladd) -> None:
    run("push", exact, repo)
    hub.log()

    hub.run('import datasets, sys; datasets.load_dataset(sys.argv[1], "whole")', repo)

    fetched = [line for line in hub.log() if "/resolve/" in line and "train-" in line]
    assert fetched and all("labels/whole/train-" in line for line in fetched)


def test_label_and_reencode_carry_the_sets(exact: Path, labeler: Path, tmp_path: Path, run: Ladd) -> None:
    before = content(exact)

    run("label", exact, "--labeler", labeler, "--grid", 2, "-o", tmp_path / "again")
    run("reencode", exact, "--encoding", "q4", "-o", tmp_path / "smaller")
    run("reencode", exact, "--labels", "crops", "--encoding", "q8", "-o", tmp_path / "crops")

    assert content(exact) == before
    for name, same in (("again", ("crops", "whole")), ("smaller", ("crops", "whole")), ("crops", ("whole",))):
        made = tmp_path / name
        assert ladd.validate(made).problems == () and list_sets(made) == ["crops", "whole"]
        assert all(sets_of(made, one) == sets_of(exact, one) for one in same)
        configs = read_card_header((made / "README.md").read_text())["dataset_info"]
        assert [config["config_name"] for config in configs] == ["default", "crops", "whole"]
    assert ladd.load(tmp_path / "smaller").manifest.labels != ladd.load(exact).manifest.labels
    new, old = (ladd.load(path, labels="crops").manifest.labels for path in (tmp_path / "crops", exact))
    assert new is not None and old is not None and new.parent == old.digest and new.coding.encoding == "q8"
    own = {name for name in before if not name.startswith("labels/") and name != "README.md"}
    assert {name: before[name] for name in own} == {name: content(tmp_path / "crops")[name] for name in own}


def test_labels_are_re_encoded_into_a_further_set(exact: Path, run: Ladd) -> None:
    images = digests(exact)
    said = run("reencode", exact, "--encoding", "q8", "--as", "q8")["labels"]
    run("reencode", exact, "--labels", "crops", "--encoding", "q4", "--as", "crops", "--overwrite")

    assert ladd.validate(exact).problems == ()
    assert {name for name, digest in digests(exact).items() if images.get(name, digest) != digest} <= {
        f"labels/crops/{name}" for name in ("labels.json", "shards.json", "train-00000-of-00001.parquet")
    }
    stated, inline = ladd.load(exact, labels="q8").manifest.labels, ladd.load(exact).manifest.labels
    assert stated is not None and inline is not None and stated.parent == inline.digest
    off = np.abs(dense(exact, "q8").astype(np.float64) - dense(exact)).sum(-1) / 2
    assert (
        stated.certificate.mean_tv
        == pytest.approx(off.mean(), abs=1e-6)
        == pytest.approx(said["certificate"]["mean_tv"], abs=1e-6)
    )
    assert ladd.load(exact, labels="q8").manifest.recipe == ladd.load(exact).manifest.recipe
    assert "--overwrite" in run("reencode", exact, "--encoding", "q4", "--as", "q8", code=2)
    assert "expected float32" in run("reencode", exact, "--labels", "q8", "--encoding", "q4", "--as", "worse", code=2)
    assert "say where the labels go" in run("reencode", exact, "--encoding", "q4", code=2)
    assert list_sets(exact) == ["crops", "q8", "whole"]


def test_pruned_labels_are_a_set_whose_views_are_drawn_by_seed_alone(exact: Path, run: Ladd) -> None:
    said = run("reencode", exact, "--keep-views", 5, "--as", "few")
    assert said["kept"] == {"views": 5, "of": 25, "seed": 0}
    run("reencode", exact, "--keep-views", 5, "--as", "same")
    run("reencode", exact, "--keep-views", 5, "--seed", 1, "--as", "others")
    run("reencode", exact, "--labels", "few", "--keep-views", 2, "--as", "fewer")

    present = {}
    for name in ("few", "same", "others", "fewer"):
        (batch,) = ladd.load(exact, labels=name).loader(6)
        assert batch.present is not None and batch.dense is not None
        present[name] = batch.present.numpy()
        np.testing.assert_array_equal(batch.dense.numpy()[present[name]], dense(exact)[present[name]])
    assert (present["few"].sum(1) == 5).all() and (present["fewer"].sum(1) == 2).all()
    assert np.array_equal(present["few"], present["same"]) and not np.array_equal(present["few"], present["others"])
    assert (present["few"] >= present["fewer"]).all() and len({row.tobytes() for row in present["few"]}) > 1
    stated = ladd.load(exact, labels="few").manifest.labels
    assert stated is not None and stated.certificate.max_tv < 1e-6
    sizes = {row["name"]: row["bytes"] for row in run("labels", exact)["labels"]}
    assert sizes["few"] < 0.7 * sizes["default"] and ladd.validate(exact).problems == ()
    assert "fewer than the 25" in run("reencode", exact, "--keep-views", 25, "--as", "all", code=2)


def test_half_precision_answers_that_lost_nothing_may_be_re_encoded(exact: Path) -> None:
    from ladd_data.labeling.store import GivenLabels, store_labels
    from ladd_data.manifest import Full

    answers = np.random.default_rng(0).normal(0, 3, (6, 1, 3)).astype(np.float16).astype(np.float32)
    given = GivenLabels(Full(), lambda first, stop: answers[first:stop], ladd.Recipe(loss="kl", temperature=20.0))
    store_labels(ladd.load(exact), "half", given, Coding(space="logits", dtype="float16"))

    made = reencode_set(ladd.load(exact, labels="half"), "half-q8", Coding(encoding="q8"))

    assert made.labels is not None and made.recipe.temperature == 20 and ladd.validate(exact).problems == ()
    reencode_set(ladd.load(exact), "lossy", Coding(dtype="float16"))
    with pytest.raises(ladd.UsageError, match="stored as float16; expected float32"):
        reencode_set(ladd.load(exact, labels="lossy"), "worse", Coding(encoding="q8"))


@pytest.mark.parametrize("command", ["label", "reencode", "export"])
def test_a_damaged_set_is_named_before_anything_is_copied(
    exact: Path, labeler: Path, tmp_path: Path, run: Ladd, command: str
) -> None:
    path = exact / "labels" / "crops" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    options = {"label": ["--labeler", str(labeler)], "reencode": ["--encoding", "q8"], "export": ["--to", "parquet"]}
    more = options[command]

    assert "labels/crops/train-00000" in run(command, exact, *more, "-o", tmp_path / "out", code=1)

    assert not (tmp_path / "out").exists()
    run("labels", exact, "--remove", "crops")
    run(command, exact, *more, "-o", tmp_path / "out")
    assert list_sets(tmp_path / "out") == ["whole"]


def test_a_re_encoding_that_fails_leaves_everything_as_it_was(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ladd_data import reencode

    before = content(exact)

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reencode, "encode_log_probs", fail)
    with pytest.raises(KeyboardInterrupt):
        reencode_set(ladd.load(exact), "late", Coding(encoding="q8"))
    with pytest.raises(KeyboardInterrupt):
        reencode_dataset(ladd.load(exact, labels="crops"), Coding(encoding="q8"), tmp_path / "out")
    assert content(exact) == before and not (tmp_path / "out").exists()
    assert not list((exact / "labels").glob(".late*"))


def test_a_card_that_states_other_columns_of_a_set_is_found(exact: Path) -> None:
    card = (exact / "README.md").read_text()
    (exact / "README.md").write_text(card.replace("name: view_flip", "name: view_turned"))

    assert [problem.clause for problem in ladd.validate(exact).problems] == ["LADD-097"]


def test_a_persons_section_and_keys_of_the_card_stay(exact: Path, run: Ladd) -> None:
    path = exact / "README.md"
    mine = "## Label sets\nMine.\n"
    text = path.read_text()
    start = text.index("## Label sets")
    stop = text.index("\n## ", start)
    path.write_text(text[:start] + mine + text[stop:])

    run("labels", exact, "--remove", "whole")

    assert mine.strip() in path.read_text() and "config_name: whole" not in path.read_text()


@pytest.fixture
def published(hub: Hub, repo: str, exact: Path, run: Ladd) -> str:
    """`exact` on the Hub, by name."""
    run("push", exact, repo)
    return repo


def test_commands_take_a_repository_by_name(
    published: str, exact: Path, labeler: Path, tmp_path: Path, run: Ladd
) -> None:
    np.savez(tmp_path / "val.npz", images=np.zeros((6, 32, 32, 3), np.uint8), labels=np.arange(6) % 3)
    common = ["--val", tmp_path / "val.npz", "--width", 8, "--epochs", 1, "--seeds", 1]

    run("reencode", published, "--encoding", "q8", "-o", tmp_path / "small")
    assert ladd.validate(tmp_path / "small").problems == () and list_sets(tmp_path / "small") == []
    for name in ("crops", None):
        chosen = ["--labels", name] if name else []
        ours, theirs = (run("train", place, *chosen, *common) for place in (published, exact))
        assert [one["loss"] for one in ours["seeds"]] == [one["loss"] for one in theirs["seeds"]]
        assert run("check-labels", published, "--labeler", labeler, *chosen)["agrees"]
    run("reencode", published, "--labels", "crops", "--encoding", "q8", "-o", tmp_path / "crops")
    assert ladd.validate(tmp_path / "crops").problems == () and list_sets(tmp_path / "crops") == ["crops"]
    assert "ladd pull" in run("reencode", published, "--encoding", "q8", "--as", "x", code=2)
    assert "ladd pull" in run("labels", published, "--remove", "crops", code=2)
    assert 'no label set "crop"' in run("pull", published, tmp_path / "no", "--labels", "crop", code=2)
    assert not (tmp_path / "no").exists()


def test_what_a_copy_of_a_repository_lacks_is_said(
    published: str, tmp_path: Path, run: Ladd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ladd", "export", published, "--to", "arrow", "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()

    assert not stop.value.code and "crops, whole" in capsys.readouterr().err
    assert ladd.validate(tmp_path / "out").problems == ()


def test_projectors_are_pulled_one_by_one_and_copied_where_they_are(
    hub: Hub, repo: str, exact: Path, labeler: Path, tmp_path: Path, run: Ladd
) -> None:
    pytest.importorskip("timm")
    make_projector(exact, make_backbone(tmp_path / "backbone.safetensors"), labeler)
    run("push", exact, repo)

    run("reencode", repo, "--encoding", "q8", "-o", tmp_path / "copied")
    run("pull", repo, tmp_path / "without", "--labels", "whole")
    run("pull", repo, tmp_path / "with", "--labels", "hello")
    run("reencode", tmp_path / "with", "--encoding", "q8", "-o", tmp_path / "again")

    assert "`hello`" in (exact / "README.md").read_text()
    for name in ("copied", "without"):
        assert not (tmp_path / name / "labels" / "hello").exists()
        assert "`hello`" not in (tmp_path / name / "README.md").read_text()
    for name in ("with", "again"):
        assert list_sets(tmp_path / name) == [] and sets_of(tmp_path / name, "hello") == sets_of(exact, "hello")
    for name in ("copied", "without", "with", "again"):
        assert ladd.validate(tmp_path / name).problems == ()
