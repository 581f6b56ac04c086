"""The ledger counts bytes as they are and agrees with what the paper says of its own."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from making import label, make_labeler

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.converter import Distilled
from ladd_data.encodings.coding import column_types, encode_labels
from ladd_data.encodings.profiles import Budget, coding_of_profile
from ladd_data.files import canonical_json
from ladd_data.ledger import count_ledger
from ladd_data.manifest import Classes, Network, Normalization
from ladd_data.models.arithmetic import count_flops
from ladd_data.png import encode_png
from ladd_data.shards.folder import open_folder
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.parquet import ParquetWriter, column_bytes
from ladd_data.shards.plan import plan_shards
from ladd_data.types import U8

TEN = Classes(names=tuple("abcdefghij"))


def smooth_pictures(count: int, size: int) -> U8:
    """Photograph-like pictures: soft shapes of several scales with a little noise."""
    generator = np.random.default_rng(0)
    total = np.zeros((count, 3, size, size))
    for cells in (4, 8, 16, 32, 64):
        coarse = generator.normal(0, 90 / cells**0.5, (count, 3, cells, cells))
        total += np.kron(coarse, np.ones((1, 1, size // cells, size // cells)))
    total += generator.normal(0, 3, total.shape)
    return np.clip(np.rint(128 + total), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def nette(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IPC-1 at 128 px with 10 classes and the paper's labels."""
    home = tmp_path_factory.mktemp("nette")
    pixels = smooth_pictures(10, 128)
    raw = Normalization(mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (raw.mean, raw.std))
    distilled = Distilled(
        method="test",
        repository="https://example.org",
        images=((pixels / np.float32(255) - mean) / std).astype(np.float32),
        labels=np.arange(10, dtype=np.int64),
        classes=TEN,
        normalization=raw,
        whitening="none",
        files=(),
    )
    convert(prepare(distilled, "nette"), home / "nette")
    labeler = make_labeler(home / "labeler.safetensors", TEN, 128)
    return label(home / "nette", labeler, home / "out", profile="paper")


def test_the_papers_profile_costs_2_03_percent_of_raw_pixels(nette: Path) -> None:
    ledger = count_ledger(open_folder(nette))

    assert ledger.raw.images == 10 * 128 * 128 * 3 and ledger.raw.dense_labels == 10 * 25 * 10 * 4
    assert f"{ledger.raw.overhead:.2%}" == "2.03%"


def test_with_zip_it_is_the_papers_2_5_percent_or_less(nette: Path) -> None:
    ledger = count_ledger(open_folder(nette))

    assert 0.020 <= ledger.zip.overhead <= 0.026


def test_zip_equals_a_count_made_outside(nette: Path) -> None:
    arrays = ladd.load(nette).arrays
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images", arrays.images.tobytes())
        archive.writestr("labels", arrays.dense["dense_probs"].tobytes())
        sizes = [archive.getinfo(name).compress_size for name in ("images", "labels")]

    ledger = count_ledger(open_folder(nette))

    assert [ledger.zip.images, ledger.zip.dense_labels] == sizes
    assert ledger.zipped_records == 10


def test_stored_bytes_add_up_to_the_files(nette: Path) -> None:
    ledger = count_ledger(open_folder(nette))

    on_disk = sum(path.stat().st_size for path in nette.rglob("*") if path.is_file())
    assert ledger.files == on_disk
    assert ledger.metadata + ledger.stored.images + ledger.stored.dense_labels + ledger.hard_labels < on_disk


def test_compact_labels_of_1000_classes_at_224_px_stay_within_2_5_percent_of_the_stored_images(tmp_path: Path) -> None:
    classes, count = Classes(names=tuple(f"c{number}" for number in range(1000))), 4
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 3, 224, 224), np.uint8)
    images = [encode_png(image, "stored") for image in pixels]
    image_bytes = float(np.mean([len(image) for image in images]))
    coding = coding_of_profile("compact", Budget(1000, 25, image_bytes))
    columns = encode_labels(generator.normal(0, 3, (count, 25, 1000)).astype(np.float32), coding)
    layout = Layout(classes.names, column_types(coding, 25, 1000), (3, 224, 224), "stored")
    (tmp_path / "data").mkdir()
    writer = ParquetWriter(tmp_path, layout, plan_shards(count, 200_000))
    writer.add(Records([f"r{number}" for number in range(count)], np.arange(count), images, columns))
    sizes = column_bytes(tmp_path / writer.close(canonical_json({"spec_version": "1.0"}))[0])

    labels = sum(size for name, size in sizes.items() if name.startswith("dense_"))

    assert coding.encoding == "topk" and 0.02 < labels / sizes["image"] <= 0.025


def test_labeling_imagenette_ipc_5_takes_the_papers_0_002_pflops() -> None:
    network = Network(name="convnet-d5", width=128, classes=10, channels=3, size=128)

    pflops = count_flops(network) * 25 * (10 * 5) / 1e15

    assert f"{pflops:.3f}" == "0.002"


def test_a_default_label_counts_two_bytes_a_class_and_four_for_logz(labelled: Path) -> None:
    assert count_ledger(open_folder(labelled)).raw.dense_labels == 6 * 25 * (3 * 2 + 4)
