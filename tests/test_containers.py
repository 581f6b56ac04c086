"""The three containers keep one contract, and a dataset goes from each to each without loss."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from damaging import call, content
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plainly import run_plainly

import ladd_data as ladd
from ladd_data import writer as dataset_writer
from ladd_data.encodings.coding import column_types, encode_labels
from ladd_data.encodings.profiles import ENCODINGS, coding_of_encoding
from ladd_data.errors import LaddError
from ladd_data.export import export_dataset
from ladd_data.files import canonical_json, sha256_file
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.png import PngKind, encode_png
from ladd_data.shards import plan as shard_plan
from ladd_data.shards.editions import find_container
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.plan import plan_shards
from ladd_data.types import U8, Edition
from ladd_data.views.geometry import grid

EDITIONS: tuple[Edition, ...] = get_args(Edition)
OTHERS: tuple[Edition, ...] = ("webdataset", "arrow")
MANIFEST = canonical_json({"spec_version": "1.0", "name": "é\n"})
NAMES = tuple(f"class {number}" for number in range(12))


def make_records(count: int, encoding: str, png: PngKind | None) -> tuple[Layout, Records]:
    """Return random records with labels of an encoding; views 4, classes 12, images 3x8x6."""
    generator = np.random.default_rng(count)
    coding = ENCODINGS[encoding]
    layout = Layout(NAMES, column_types(coding, 4, len(NAMES)), (3, 8, 6), png)
    images = generator.integers(0, 256, (count, *layout.shape), np.uint8)
    dense = encode_labels(generator.normal(0, 3, (count, 4, len(NAMES))).astype(np.float32), coding)
    ids = [f"r-{number}" for number in range(count)]
    files = [encode_png(image, png) if png else encode_jpeg(image) for image in images]
    return layout, Records(ids, np.arange(count) % 12, files, dense)


def encode_jpeg(image: U8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(edition: Edition, folder: Path, layout: Layout, records: Records, cuts: list[int], size: int) -> list[Path]:
    (folder / "data").mkdir(parents=True)
    plan = plan_shards(len(records), layout.record_bytes, size)
    writer = find_container(edition).open_writer(folder, layout, plan)
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(records)]):
        writer.add(records.slice(start, stop))
    return [folder / path for path in writer.close(MANIFEST)]


def assert_same(found: list[Records], expected: Records) -> None:
    assert [name for part in found for name in part.ids] == expected.ids
    assert [image for part in found for image in part.images] == list(expected.images)
    assert np.array_equal(np.concatenate([part.labels for part in found]), expected.labels)
    for name, values in expected.dense.items():
        joined = np.concatenate([part.dense[name] for part in found])
        assert joined.dtype == values.dtype and np.array_equal(joined, values)


# The contract


@pytest.mark.parametrize("edition", EDITIONS)
@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(1, 20),
    cuts=st.lists(st.integers(0, 20), max_size=5),
    size=st.integers(300, 9000),
    group=st.integers(300, 4000),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    png=st.sampled_from(("stored", "small", None)),
)
def test_records_come_back_and_bytes_do_not_depend_on_the_cuts(
    tmp_path_factory: pytest.TempPathFactory,
    edition: Edition,
    count: int,
    cuts: list[int],
    size: int,
    group: int,
    encoding: str,
    png: PngKind | None,
) -> None:
    folder, container = tmp_path_factory.mktemp("shards"), find_container(edition)
    layout, records = make_records(count, encoding, png)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_plan, "ROW_GROUP_BYTES", group)
        whole = write(edition, folder / "whole", layout, records, [], size)

        cut = write(edition, folder / "cut", layout, records, [min(edge, count) for edge in cuts], size)

        assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in cut]
        assert sorted((folder / "cut" / "data").iterdir()) == sorted(cut)  # and nothing is left behind
        assert_same([part for path in cut for part in container.read_records(path, layout)], records)
        first = 0
        for index, path in enumerate(cut):
            container.check_columns(path, layout)
            sizes, footer = container.read_group_sizes(path, layout), container.read_footer(path)
            meta = json.loads(footer.keys[b"ladd"])
            assert footer.rows == sum(sizes) and meta["shard"] == {"index": index, "count": len(cut)}
            assert meta["manifest"] == json.loads(MANIFEST)
            assert meta["manifest_sha256"] == hashlib.sha256(MANIFEST).hexdigest()
            for number, rows in enumerate(sizes):
                part = list(container.read_records(path, layout, [number]))
                assert_same(part, records.slice(first, first + rows))
                first += rows
        assert first == count


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux lists a process's open files there")
@pytest.mark.parametrize("edition", EDITIONS)
def test_a_shard_that_has_all_its_records_is_no_open_file(tmp_path: Path, edition: Edition) -> None:
    def count_open() -> int:
        names = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
        return sum(name.startswith(f"{tmp_path}{os.sep}") for name in names)

    (tmp_path / "data").mkdir()
    layout, records = make_records(12, "float16", "stored")
    plan = plan_shards(12, 300, 300)
    writer = find_container(edition).open_writer(tmp_path, layout, plan)
    most = 0
    for row in range(12):
        writer.add(records.slice(row, row + 1))
        most = max(most, count_open())
    paths = writer.close(MANIFEST)

    assert (plan.shards, most <= 2, count_open()) == (12, True, 0)  # the one begun last, and one on its way to the disk
    assert [writer.digest(index) for index in range(12)] == [sha256_file(tmp_path / path) for path in paths]


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_writer_that_got_too_few_records_refuses_to_close(tmp_path: Path, edition: Edition) -> None:
    (tmp_path / "data").mkdir()
    layout, records = make_records(2, "float16", "stored")
    writer = find_container(edition).open_writer(tmp_path, layout, plan_shards(3, 300, 300))
    writer.add(records)

    with pytest.raises(ValueError, match="planned 3 records, got 2"):
        writer.close(MANIFEST)
    writer.abort()


@pytest.mark.parametrize("edition", EDITIONS)
def test_columns_of_another_layout_are_named(tmp_path: Path, edition: Edition) -> None:
    layout, records = make_records(3, "float16", "stored")
    other, _ = make_records(3, "float32", "stored")
    path = write(edition, tmp_path, layout, records, [], 10**6)[0]

    with pytest.raises(ValueError, match="dense_log_probs"):
        find_container(edition).check_columns(path, other)
    with pytest.raises(ValueError, match="dense_log_probs"):
        list(find_container(edition).read_records(path, other))


@pytest.mark.parametrize("edition", EDITIONS)
def test_stored_bytes_are_counted_by_column(tmp_path: Path, edition: Edition) -> None:
    layout, records = make_records(3, "q8", "stored")
    path = write(edition, tmp_path, layout, records, [], 10**6)[0]

    sizes = find_container(edition).column_bytes(path)

    assert set(layout.column_names) - {"id"} <= set(sizes) and sizes["image"] >= 3 * 8 * 6 * 3
    assert sum(sizes.values()) < path.stat().st_size


def test_the_tar_is_what_pythons_own_tar_and_numpy_read(tmp_path: Path) -> None:
    layout, records = make_records(2, "topk", "stored")
    path = write("webdataset", tmp_path, layout, records, [], 10**6)[0]

    with tarfile.open(path) as tar:
        members = tar.getmembers()
        arrays = {m.name: np.load(io.BytesIO(tar.extractfile(m).read())) for m in members if m.name.endswith("npy")}  # type: ignore[union-attr]
        meta = json.loads(tar.pax_headers["LADD.meta"])

    names = ["png", "cls", "dense_topk_ids.npy", "dense_topk_log_probs.npy", "dense_tail_log_prob.npy"]
    assert [m.name for m in members[:6]] == [f"r-0.{name}" for name in [*names, "dense_logz.npy"]]
    assert {(m.mtime, m.uid, m.gid, m.mode, m.isreg()) for m in members} == {(0, 0, 0, 0o644, True)}
    assert meta["manifest"] == json.loads(MANIFEST)
    assert np.array_equal(arrays["r-1.dense_topk_ids.npy"], records.dense["dense_topk_ids"][1])
    assert arrays["r-1.dense_logz.npy"].dtype == np.dtype("<f4")


def test_an_id_that_tar_readers_skip_is_refused(tmp_path: Path) -> None:
    layout, records = make_records(2, "float16", "stored")
    records.ids[1] = "__r"

    (tmp_path / "data").mkdir()
    writer = find_container("webdataset").open_writer(tmp_path, layout, plan_shards(2, 300))

    with pytest.raises(LaddError, match=r'"__r".*two underscores'):
        writer.add(records)
    writer.abort()


def test_arrow_pixels_and_labels_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    layout, records = make_records(20, "float16", "stored")
    path = write("arrow", tmp_path, layout, records, [], 10**6)[0]
    before = pa.total_allocated_bytes()

    part = next(find_container("arrow").read_records(path, layout))

    assert pa.total_allocated_bytes() == before
    assert not part.dense["dense_log_probs"].flags.owndata and not part.dense["dense_log_probs"].flags.writeable


# The ring


@contextmanager
def small_shards() -> Iterator[None]:
    """Cut so small that six records make several shards of several row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_writer, "plan_shards", partial(plan_shards, shard_bytes=12_000))
        patch.setattr(shard_plan, "ROW_GROUP_BYTES", 4_000)
        yield


def export(source: Path, edition: Edition, target: Path) -> Path:
    """Export a dataset by way of the package's own function."""
    export_dataset(ladd.load(source), edition, target)
    return target


JPEGS = ("jpeg-none", "jpeg-float16", "jpeg-q4")
MakeEncoded = Callable[[str], Path]


@pytest.fixture(scope="module")
def encoded(unlabelled: Path, jpegs: Path, labeler: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeEncoded:
    """Return the Parquet dataset of an encoding, or of none; "jpeg-..." of JPEG files; in small shards."""
    home = tmp_path_factory.mktemp("encoded")

    def make(name: str) -> Path:
        target, encoding = home / name, name.removeprefix("jpeg-")
        source = unlabelled if encoding == name else jpegs
        if encoding == "none" and not target.exists():
            export(source, "parquet", target)
        if not target.exists():
            coding, device = coding_of_encoding(encoding, 3), torch.device("cpu")
            label_dataset(ladd.load(source), LabelPlan(load_labeler(labeler), grid(5, "5/8"), coding, device), target)
        return target

    with small_shards():
        for name in ("none", *ENCODINGS, *JPEGS):
            make(name)
    return make


@pytest.mark.parametrize("encoding", ["none", *ENCODINGS, *JPEGS])
def test_parquet_to_tar_to_arrow_and_back_gives_the_same_bytes(
    encoded: MakeEncoded, encoding: str, tmp_path: Path
) -> None:
    source = last = encoded(encoding)
    with small_shards():
        for edition in ("webdataset", "arrow", "parquet"):
            last = export(last, edition, tmp_path / edition)

            assert ladd.validate(last).problems == ()
            assert (last / "meta/ladd.json").read_bytes() == (source / "meta/ladd.json").read_bytes()

    assert len(content(source)) > 4  # several shards
    assert content(last) == content(source)


@pytest.mark.parametrize("edition", OTHERS)
def test_a_dataset_reads_the_same_from_every_edition(labelled: Path, edition: Edition, tmp_path: Path) -> None:
    one, other = ladd.load(labelled), ladd.load(export(labelled, edition, tmp_path / "set"))

    assert other.folder.edition == edition and other.arrays.ids == one.arrays.ids
    assert np.array_equal(other.arrays.images, one.arrays.images)
    first, second = one[4], other[4]
    assert first.dense_labels is not None and second.dense_labels is not None
    assert torch.equal(first.image, second.image) and torch.equal(first.dense_labels, second.dense_labels)
    batches = zip(one.loader(4, shuffle=True, seed=1), other.loader(4, shuffle=True, seed=1), strict=True)
    assert all(torch.equal(left.image, right.image) for left, right in batches)


@pytest.mark.parametrize("edition", OTHERS)
def test_labeling_keeps_the_edition_and_gives_the_same_labels(
    unlabelled: Path, labelled: Path, labeler: Path, edition: Edition, tmp_path: Path
) -> None:
    source, target = export(unlabelled, edition, tmp_path / "plain"), tmp_path / "labelled"
    plan = LabelPlan(load_labeler(labeler), grid(5, "5/8"), ENCODINGS["float16"], torch.device("cpu"), "default")

    label_dataset(ladd.load(source), plan, target)

    assert ladd.load(target).folder.edition == edition
    assert (target / "meta/ladd.json").read_bytes() == (labelled / "meta/ladd.json").read_bytes()


@pytest.mark.parametrize("edition", OTHERS)
def test_the_ledger_counts_every_edition(labelled: Path, edition: Edition, tmp_path: Path) -> None:
    target = export(labelled, edition, tmp_path / "set")

    assert call("info", target, "--json") == 0


# The command


def test_export_writes_in_place_and_prints_one_json_document(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "set"))

    assert call("export", folder, "--to", "arrow", "-o", folder) == 2  # exists
    capsys.readouterr()
    assert call("export", folder, "--to", "arrow", "-o", folder, "--overwrite", "--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert call("export", folder, "--to", "parquet", "-o", folder, "--overwrite") == 0

    assert (written["edition"], written["records"], written["written"]) == ("arrow", 6, str(folder))
    assert content(folder) == content(labelled)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_export_of_an_unknown_edition_is_a_usage_error(labelled: Path, tmp_path: Path) -> None:
    assert call("export", labelled, "--to", "zip", "-o", tmp_path / "set") == 2


def test_export_of_wrong_records_is_refused_and_leaves_nothing(labelled: Path, tmp_path: Path) -> None:
    dataset = ladd.load(labelled)
    dataset.manifest = dataset.manifest.model_copy(update={"digest": "0" * 64})

    with pytest.raises(ladd.DatasetError, match="LADD-026"):
        export_dataset(dataset, "arrow", tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


# Plain clients


@pytest.fixture(scope="module")
def tars(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(labelled, "webdataset", tmp_path_factory.mktemp("plain") / "tars")


@pytest.fixture(scope="module")
def arrows(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(labelled, "arrow", tmp_path_factory.mktemp("plain") / "arrows")


def test_load_dataset_opens_the_tars_streaming_or_not(tars: Path, tmp_path: Path) -> None:
    code = f"""import datasets, numpy
for streaming in (False, True):
    d = datasets.load_dataset({str(tars)!r}, streaming=streaming)['train']
    r = list(d)[5]
    dense = numpy.array(r['dense_log_probs.npy'])
    print(r['png'].size, r['cls'], r['__key__'], dense.shape, d.features['cls'].names)"""

    assert run_plainly(code, tmp_path).splitlines() == ["(32, 32) 2 000005 (25, 3) ['ant', 'bee', 'cat']"] * 2


def test_webdataset_reads_the_tars_undecorated(tars: Path, labelled: Path, tmp_path: Path) -> None:
    shard = next((tars / "data").iterdir())
    code = f"""import webdataset, numpy
records = list(webdataset.WebDataset({str(shard)!r}, shardshuffle=False).decode('pil'))
r = records[5]
dense = r['dense_log_probs.npy']
print(len(records), r['__key__'], r['png'].size, r['cls'], dense.shape, dense.dtype)
numpy.save({str(tmp_path / "dense.npy")!r}, dense)"""

    assert run_plainly(code, tmp_path).strip() == "6 000005 (32, 32) 2 (25, 3) float16"
    assert np.array_equal(np.load(tmp_path / "dense.npy"), ladd.load(labelled).arrays.dense["dense_log_probs"][5])


def test_load_dataset_and_pyarrow_open_the_arrow_files(arrows: Path, labelled: Path, tmp_path: Path) -> None:
    shard = next((arrows / "data").iterdir())
    code = f"""import datasets, numpy, pyarrow
for options in (({str(arrows)!r},), ('arrow', None, None, {str(shard)!r})):
    for streaming in (False, True):
        d = datasets.load_dataset(*options, streaming=streaming)['train']
        r = list(d)[5]
        image, dense = numpy.array(r['image']), numpy.array(r['dense_log_probs'])
        print(image.shape, r['label'], r['id'], dense.shape, d.features['label'].names)
batch = pyarrow.ipc.open_file(pyarrow.memory_map({str(shard)!r})).get_batch(0)
numpy.save({str(tmp_path / "image.npy")!r}, batch['image'].flatten().flatten().flatten().to_numpy())"""

    assert run_plainly(code, tmp_path).splitlines() == ["(3, 32, 32) 2 000005 (25, 3) ['ant', 'bee', 'cat']"] * 4
    assert np.array_equal(np.load(tmp_path / "image.npy").reshape(6, 3, 32, 32), ladd.load(labelled).arrays.images)
