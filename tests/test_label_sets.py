"""Label sets: further labels over the same images, added, read, checked and removed without touching anything else."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from making import make_distilled
from plainly import run_plainly

import ladd_data as ladd
from ladd_data import label_writer
from ladd_data.card.sets import offer_sets
from ladd_data.cli import main
from ladd_data.convert import convert, prepare
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.export import export_dataset
from ladd_data.labeling.add import add_labels
from ladd_data.labeling.journal import Progress
from ladd_data.labeling.label import LabelPlan, Reports, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.labeling.store import GivenLabels, store_labels
from ladd_data.manifest import Coding, Full, Mix, ViewSpec
from ladd_data.shards import label_sets, plan
from ladd_data.shards.joined import JoinedFolder
from ladd_data.shards.limits import check_pages
from ladd_data.shards.plan import ShardPlan

MIX = Mix(count=4, flip=True, cutmix=True, mixup=True)


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but hidden ones."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if "/." not in f"/{name}"}


def add(folder: Path, labeler: Path, name: str, views: ViewSpec, coding: str = "float32", **more: Any) -> None:
    plan = LabelPlan(load_labeler(labeler), views, ENCODINGS[coding], torch.device("cpu"))
    add_labels(ladd.load(folder), plan, name, **more)


@pytest.fixture(scope="module")
def sets(labelled: Path, labeler: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled dataset with two further sets."""
    folder = tmp_path_factory.mktemp("sets") / "tiny-ladd"
    shutil.copytree(labelled, folder)
    add(folder, labeler, "mixed", MIX, "q8")
    add(folder, labeler, "whole", Full())
    return folder


@pytest.fixture
def copy(sets: Path, tmp_path: Path) -> Path:
    shutil.copytree(sets, tmp_path / "copy")
    return tmp_path / "copy"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["ladd", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_adding_a_set_changes_no_byte_but_the_cards(sets: Path, labelled: Path) -> None:
    before, after = content(labelled), content(sets)

    assert {name for name in before if before[name] != after[name]} == {"README.md"}
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"mixed", "whole"}
    assert ladd.validate(sets).problems == ()
    assert ladd.load(sets).manifest == ladd.load(labelled).manifest


def test_removing_the_sets_gives_the_dataset_back_byte_by_byte(
    copy: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mixed", "whole"):
        assert call(monkeypatch, "labels", copy, "--remove", name) == 0
        assert ladd.validate(copy).problems == ()

    assert content(copy) == content(labelled)


def test_a_dataset_opened_with_a_set_is_that_with_its_labels_in_the_records(
    sets: Path, unlabelled: Path, labeler: Path, tmp_path: Path
) -> None:
    plan = LabelPlan(load_labeler(labeler), Full(), ENCODINGS["float32"], torch.device("cpu"))
    label_dataset(ladd.load(unlabelled), plan, tmp_path / "inline")
    inline, joined = ladd.load(tmp_path / "inline"), ladd.load(sets, labels="whole")

    assert joined.manifest == inline.manifest and joined.manifest.digest == inline.manifest.digest
    for placement in ("resident", "cached"):
        loaders = [data.loader(4, shuffle=True, placement=placement) for data in (inline, joined)]
        for ours, theirs in zip(*loaders, strict=True):
            assert ours.dense is not None and theirs.dense is not None
            assert torch.equal(ours.image, theirs.image) and torch.equal(ours.dense, theirs.dense)
            assert torch.equal(ours.views().pixels, theirs.views().pixels)
    assert joined[3].dense_labels is not None and joined[3].dense_labels.shape == (1, 3)
    again = pickle.loads(pickle.dumps(joined))
    assert again.manifest == joined.manifest
    batch = joined.to_torch().__getitems__([2, 0]).batch
    assert batch.dense is not None and batch.dense.shape == (2, 1, 3)


def test_each_set_has_a_cache_of_its_own(sets: Path) -> None:
    dense = {}
    for name in ("default", "mixed", "whole"):
        loader = ladd.load(sets, labels=name).loader(6, placement="cached")
        dense[name] = next(iter(loader)).dense
    assert [None if d is None else tuple(d.shape) for d in dense.values()] == [(6, 25, 3), (6, 4, 3), (6, 1, 3)]


def test_a_stream_joins_records_with_the_labels_of_a_set(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "ROW_GROUP_BYTES", 7500)  # row groups of two records
    source = sets
    for edition in ("webdataset", "arrow", "parquet"):
        export_dataset(ladd.load(source), edition, tmp_path / edition)
        source = tmp_path / edition
        data = ladd.load(source, labels="whole")
        for batch in data.loader(4, shuffle=True, placement="streaming"):
            for row, record in enumerate(data[number] for number in batch.index.tolist()):
                assert batch.dense is not None and record.dense_labels is not None
                assert torch.equal(batch.image[row], record.image)
                assert torch.equal(batch.dense[row], record.dense_labels)
    assert pq.ParquetFile(next((source / "data").iterdir())).num_row_groups == 3


def test_a_shuffled_stream_reads_each_row_group_of_a_set_once(
    copy: Path, labeler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP_BYTES", 200)  # row groups of two records
        add(copy, labeler, "cut", Full())
    read: list[Any] = []

    def check(*given: Any) -> None:
        read.append(given)
        check_pages(*given)

    monkeypatch.setattr(label_sets, "check_pages", check)
    folder = ladd.load(copy, labels="cut").folder
    assert isinstance(folder, JoinedFolder)
    files = folder.labels
    read.clear()

    for number in (0, 4, 1, 5, 2, 3, 0):
        assert len(list(files.rows(number, number + 1))) == 1

    assert len(files._groups) == 3 and len(read) == 3


def test_a_stream_of_mixed_views_says_which_placements_have_the_other_images(sets: Path) -> None:
    with pytest.raises(ladd.UsageError, match=r'mix each image .* "resident"'):
        ladd.load(sets, labels="mixed").loader(4, placement="streaming")


def test_an_image_set_without_labels_may_have_sets(unlabelled: Path, labeler: Path, tmp_path: Path) -> None:
    shutil.copytree(unlabelled, tmp_path / "set")
    add(tmp_path / "set", labeler, "one", MIX)

    assert ladd.load(tmp_path / "set").manifest.labels is None
    assert ladd.load(tmp_path / "set", labels="one").view_spec == MIX
    assert ladd.validate(tmp_path / "set").problems == ()


def test_datasets_alone_reads_each_set_by_its_name(sets: Path, tmp_path: Path) -> None:
    code = f"""import datasets
for name in ("mixed", "whole"):
    d = datasets.load_dataset({str(sets)!r}, name)['train'].with_format('numpy')
    print(name, d[2]['id'], {{k: getattr(v, 'shape', None) for k, v in d[2].items() if k != 'id'}})
print(list(datasets.load_dataset({str(sets)!r})['train'].features))"""

    lines = run_plainly(code, tmp_path).splitlines()

    assert lines[1].startswith("whole") and "'dense_log_probs': (1, 3)" in lines[1]
    assert "'view_partner': (4,)" in lines[0] and "'view_box': (4, 4)" in lines[0]
    assert lines[2] == "['image', 'label', 'id', 'dense_log_probs', 'dense_logz']"


def test_to_datasets_has_the_images_with_the_labels_of_the_set(sets: Path) -> None:
    rows = ladd.load(sets, labels="whole").to_datasets()

    assert rows.column_names == ["image", "label", "id", "dense_log_probs", "dense_logz"]
    assert np.array(rows[0]["dense_log_probs"]).shape == (1, 3) and rows[0]["image"].size == (32, 32)


def test_labels_of_other_images_are_refused_with_both_digests(copy: Path, tmp_path: Path) -> None:
    convert(prepare(make_distilled(seed=1), "other"), tmp_path / "other")
    shutil.copytree(copy / "labels", tmp_path / "other" / "labels")
    ours, theirs = (ladd.load(path).manifest.images.digest for path in (copy, tmp_path / "other"))

    with pytest.raises(ladd.DatasetError, match=rf"labels of images of digest {ours}; expected {theirs}.*LADD-092"):
        ladd.load(tmp_path / "other", labels="whole")
    assert {problem.clause for problem in ladd.validate(tmp_path / "other").problems} == {"LADD-092"}
    assert len(ladd.load(tmp_path / "other")) == 6


def test_labels_in_another_order_are_refused_when_they_are_read(copy: Path) -> None:
    path = copy / "labels" / "whole" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(pa.array([1, 0, 2, 3, 4, 5])), path, use_dictionary=False, write_page_checksum=True)
    with pytest.raises(ladd.DatasetError, match="LADD-093"):
        ladd.load(copy, labels="whole")
    dataset = ladd.load(copy)  # nothing of it is looked at where it is not asked for
    assert len(dataset) == 6


@pytest.mark.parametrize(
    ("name", "found"),
    [("wholly", r'Did you mean "whole"\? Known: mixed, whole'), ("../data", "no label set"), ("", "no label set")],
)
def test_a_set_that_is_not_there_is_named_with_those_that_are(sets: Path, name: str, found: str) -> None:
    with pytest.raises(ladd.UsageError, match=found):
        ladd.load(sets, labels=name)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_to_a_set_is_found_and_does_not_touch_the_rest(copy: Path, damage: str) -> None:
    path = copy / "labels" / "mixed" / "train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes(data if damage == "flip" else data[:-9])

    with pytest.raises(ladd.DatasetError, match="labels/mixed/train-00000"):
        ladd.load(copy, labels="mixed")
    assert ladd.load(copy).manifest.labels is not None
    assert ladd.load(copy, labels="whole").manifest.labels is not None
    (problem,) = ladd.validate(copy, "structure").problems
    assert problem.clause in ("LADD-093", "LADD-090") and problem.file == "labels/mixed/train-00000-of-00001.parquet"


def test_names_that_would_mislead_are_refused(copy: Path, labeler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("default", "a/b", "..", "-x", "a" * 65, "a.b"):
        with pytest.raises(ladd.UsageError, match="expected 1 to 64 letters"):
            add(copy, labeler, name, Full())
    with pytest.raises(ladd.UsageError, match=r"exists already. Choose another --as, or add --overwrite"):
        add(copy, labeler, "whole", Full())
    add(copy, labeler, "whole", ladd.grid(2), overwrite=True)
    assert ladd.load(copy, labels="whole").view_spec == ladd.grid(2)
    assert call(monkeypatch, "label", copy, "--labeler", labeler) == 2
    assert call(monkeypatch, "label", copy, "--labeler", labeler, "--as", "x", "-o", copy) == 2


def test_a_run_cut_short_goes_on_and_ends_as_one_in_one_go(
    copy: Path, labeler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_writer, "plan_shards", lambda count, size: ShardPlan(count, -(-count // 2), 2, 2))
    add(copy, labeler, "straight", MIX)
    before = content(copy)
    real, saved, said = Progress.save, list[object](), list[str]()

    def save(self: Progress, part: object) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(part)
        real(self, part)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "save", save)
        add(copy, labeler, "later", MIX)
    assert content(copy) == before and ladd.validate(copy).problems == ()

    add(copy, labeler, "later", MIX, reports=Reports(on_note=said.append))

    assert "2 of 3 shards are done" in said[0]
    shards = [path.read_bytes() for path in sorted((copy / "labels" / "straight").glob("*.parquet"))]
    assert len(shards) == 3
    joined = [ladd.load(copy, labels=name).manifest for name in ("straight", "later")]
    assert joined[0] == joined[1] and ladd.validate(copy).problems == ()
    assert not list((copy / "labels").glob(".*"))


def test_the_same_labels_are_the_same_bytes(copy: Path, labeler: Path) -> None:
    before = content(copy)
    add(copy, labeler, "mixed", MIX, "q8", overwrite=True)
    assert content(copy) == before


def test_sets_go_along_into_other_editions_and_back(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "export", sets, "--to", "webdataset", "-o", tmp_path / "tar") == 0
    assert ladd.validate(tmp_path / "tar").problems == ()
    mixed = ladd.load(tmp_path / "tar", labels="mixed")
    assert mixed.manifest == ladd.load(sets, labels="mixed").manifest
    card = (tmp_path / "tar" / "README.md").read_text()
    assert "config_name: mixed" not in card and "load_dataset(..." not in card and "| `mixed` |" in card
    assert call(monkeypatch, "export", tmp_path / "tar", "--to", "parquet", "-o", tmp_path / "back") == 0
    assert content(tmp_path / "back") == content(sets)


def test_exported_with_a_set_its_labels_stand_in_the_records(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "export", sets, "--labels", "mixed", "--to", "parquet", "-o", tmp_path / "out") == 0

    assert not (tmp_path / "out" / "labels").exists()
    assert ladd.validate(tmp_path / "out").problems == ()
    assert ladd.load(tmp_path / "out").manifest == ladd.load(sets, labels="mixed").manifest


def test_commands_take_a_set_by_name(
    sets: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "labels", sets, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["labels"]
    assert [(row["name"], row["views"]) for row in rows] == [("default", 25), ("mixed", 4), ("whole", 1)]
    assert call(monkeypatch, "check-labels", sets, "--labeler", labeler, "--labels", "mixed") == 0
    assert "24 views" in capsys.readouterr().out
    assert call(monkeypatch, "info", sets, "--labels", "mixed", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"]["labels"]["views"]["kind"] == "mix" and document["label_sets"] == ["whole"]
    assert document["ledger"]["views"] > 0
    assert call(monkeypatch, "view", sets, "--labels", "mixed", "-o", tmp_path / "page.html") == 0
    assert "labels=&quot;mixed&quot;" in (tmp_path / "page.html").read_text().replace('"mixed"', "&quot;mixed&quot;")
    train = ("train", sets, "--labels", "whole", "--val", "digits:test", "--seeds", 1, "--epochs", 1)
    assert call(monkeypatch, *train) == 1  # digits are no ants: it got as far as the classes
    assert call(monkeypatch, "reencode", sets, "--labels", "whole", "--encoding", "q4", "-o", tmp_path / "small") == 0
    assert ladd.validate(tmp_path / "small").problems == ()


def test_the_ledger_counts_the_bytes_of_the_set_that_is_used(sets: Path, tmp_path: Path) -> None:
    from ladd_data.ledger import count_ledger

    inline, whole = (count_ledger(ladd.load(sets, labels=name).folder) for name in ("default", "whole"))

    assert whole.raw.images == inline.raw.images and whole.raw.dense_labels == 6 * (1 * 3 * 4 + 4)
    assert whole.stored.dense_labels < inline.stored.dense_labels
    assert whole.files > inline.files and whole.metadata > 0


def test_labels_made_elsewhere_are_stored_with_certificate_and_golden_views(copy: Path) -> None:
    dataset = ladd.load(copy, labels="mixed")
    columns = {name: values for name, values in dataset.arrays.dense.items() if name.startswith("view_")}
    logits = np.random.default_rng(0).normal(0, 4, (6, 4, 3)).astype(np.float32)
    present = np.ones((6, 4), np.bool_)
    present[2, 1] = present[0, 1] = False
    recipe = ladd.Recipe(loss="kl", temperature=20.0)
    given = GivenLabels(MIX, lambda first, stop: logits[first:stop], recipe, columns, present)

    statement = store_labels(ladd.load(copy), "fkd", given, Coding(space="logits", dtype="float32"))

    assert statement.labels.certificate.max_tv < 1e-6 and statement.recipe == recipe
    assert ladd.validate(copy).problems == ()
    (batch,) = ladd.load(copy, labels="fkd").loader(6, space="logits")
    assert batch.dense is not None and batch.present is not None
    assert np.array_equal(batch.present.numpy(), present)
    assert np.allclose(batch.dense.numpy()[present], logits[present], atol=1e-6)
    assert torch.equal(batch.views().pixels, dataset.views(batch.image, index=batch.index))
    with pytest.raises(ladd.LabelError, match=r"record 3, view 2: found NaN"):
        logits[3, 2, 0] = np.inf
        store_labels(ladd.load(copy), "worse", given, Coding(space="logits", dtype="float32"))
    assert not (copy / "labels" / "worse").exists()


def test_labels_that_do_not_fit_are_refused(copy: Path) -> None:
    dataset, recipe = ladd.load(copy), ladd.Recipe(loss="kl")
    logits = np.zeros((6, 4, 3), np.float32)
    with pytest.raises(ladd.LabelError, match="columns none; expected view_box"):
        store_labels(dataset, "worse", GivenLabels(MIX, lambda a, b: logits[a:b], recipe), ENCODINGS["q8"])
    with pytest.raises(ladd.LabelError, match=r"labels \[6, 4, 3\]; expected \[6, 1, 3\]"):
        store_labels(dataset, "worse", GivenLabels(Full(), lambda a, b: logits[a:b], recipe), ENCODINGS["q8"])
    with pytest.raises(ladd.LabelError, match="no logz"):
        given = GivenLabels(Full(), lambda a, b: logits[a:b, :1], recipe, are="log_probs")
        store_labels(dataset, "worse", given, ENCODINGS["q8"])
    assert not list((copy / "labels").glob("*worse*"))


@pytest.mark.parametrize("kind", ["link", "strange"])
def test_links_and_strangers_among_sets_are_named(copy: Path, kind: str) -> None:
    if kind == "link":
        (copy / "labels" / "whole").rename(copy / "away")
        (copy / "labels" / "whole").symlink_to(copy / "away")
        with pytest.raises(ladd.DatasetError, match="LADD-085"):
            ladd.load(copy, labels="mixed")
    else:
        (copy / "labels" / "notes.txt").write_text("hello")
        (copy / "labels" / "mixed" / "more.txt").write_text("hello")
        assert ladd.load(copy).manifest.labels is not None
    assert {p.clause for p in ladd.validate(copy).problems} == {"LADD-085" if kind == "link" else "LADD-090"}


def test_a_set_whose_run_was_killed_before_the_card_is_offered_by_the_next_call(
    copy: Path, labeler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = offer_sets, list[object]()

    def stop_at_the_second(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(label_writer, "offer_sets", stop_at_the_second)
        add(copy, labeler, "late", Full())
    assert ladd.validate(copy).problems == () and "late" not in (copy / "README.md").read_text()
    assert ladd.load(copy, labels="late").view_spec == Full()

    with pytest.raises(ladd.UsageError, match="exists already"):
        add(copy, labeler, "late", Full())
    assert "labels/late/train-*" in (copy / "README.md").read_text() and ladd.validate(copy).problems == ()


def test_a_removal_that_was_killed_leaves_a_valid_dataset(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            label_writer.remove_set(ladd.load(copy).folder, "mixed")
    assert ladd.validate(copy).problems == () and ladd.load(copy, labels="mixed").view_spec == MIX

    label_writer.remove_set(ladd.load(copy).folder, "mixed")

    assert ladd.validate(copy).problems == () and not (copy / "labels" / "mixed").exists()


def test_a_full_disk_while_a_set_is_written_leaves_the_dataset_as_it_was(
    copy: Path, labeler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(copy)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "shards.json")

    with monkeypatch.context() as patch, pytest.raises(ladd.LaddError, match="No space left"):
        patch.setattr(label_writer, "write_synced", full)
        add(copy, labeler, "late", Full())

    assert content(copy) == before and ladd.validate(copy).problems == ()
    assert not [path for path in (copy / "labels").iterdir() if path.name.startswith(".late")]
