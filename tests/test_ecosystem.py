"""Datasets in other people's loops: torch's DataLoader, torchdata, Lightning, accelerate, datasets."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from making import label, make_distilled
from plainly import run_plainly
from torch.utils.data import DataLoader, Subset

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.dataset import Dataset
from ladd_data.export import export_dataset
from ladd_data.loaders.mapstyle import MapDataset, Rows, Sample

LIGHTNING = "Lightning is not a development dependency (18 MB with its metrics): pip install lightning"


@pytest.fixture(scope="session")
def wide(home: Path, labeler: Path) -> Path:
    """Thirty records with dense labels."""
    convert(prepare(make_distilled(30), "wide"), home / "wide")
    return label(home / "wide", labeler, home / "wide-ladd")


@pytest.fixture
def dataset(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """`wide`, with a cache of its own."""
    monkeypatch.setenv("LADD_CACHE", str(tmp_path / "cache"))
    return ladd.load(wide)


@pytest.fixture
def data(dataset: Dataset) -> MapDataset:
    """`dataset` as torch knows it."""
    return dataset.to_torch()


def same(found: Any, expected: Any) -> bool:
    return all(
        torch.equal(getattr(found, name), getattr(expected, name)) for name in ("image", "label", "dense", "index")
    )


# torch: single records


def test_a_record_is_the_datasets_record(dataset: Dataset, data: MapDataset) -> None:
    sample, record = data[-1], dataset[29]

    assert len(data) == 30 and sample.index == 29 and sample.label == record.label
    assert torch.equal(sample.image, record.image) and sample.image.dtype == torch.uint8
    assert record.dense_labels is not None and torch.equal(sample.dense, record.dense_labels)


@pytest.mark.parametrize("number", [30, -31])
def test_a_record_that_is_not_there_is_an_index_error(data: MapDataset, number: int) -> None:
    with pytest.raises(IndexError, match=f"record {number} of 30"):
        _ = data[number]


def test_without_dense_labels_there_are_no_views_and_still_a_batch(
    unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADD_CACHE", str(tmp_path))
    data = ladd.load(unlabelled).to_torch()
    stacked: Sample = next(iter(DataLoader(data, batch_size=4)))
    batch: ladd.Batch = next(iter(DataLoader(data, batch_size=4, collate_fn=ladd.collate)))

    assert stacked.dense.shape == (4, 0, 3) and batch.dense is None
    with pytest.raises(ladd.UsageError, match="no"):
        batch.views()


def test_a_space_that_cannot_be_had_is_refused(paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADD_CACHE", str(tmp_path))
    with pytest.raises(ladd.UsageError, match="logz"):
        ladd.load(paper).to_torch(space="logits")


# torch: DataLoader


@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_torchs_loader_yields_our_batches_in_any_kind_of_worker(
    dataset: Dataset, data: MapDataset, method: str | None
) -> None:
    workers: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": method} if method else {}
    loader = DataLoader(data, batch_size=12, collate_fn=ladd.collate, **workers)

    found, expected = list(loader), list(dataset.loader(batch_size=12))

    assert [len(batch) for batch in found] == [12, 12, 6]
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    image, hard, dense = found[0]
    assert image is not None and hard is not None and dense is not None
    assert torch.equal(found[2].views().pixels, expected[2].views().pixels)


def test_torchs_own_collate_stacks_the_same_batch(dataset: Dataset, data: MapDataset) -> None:
    for found, expected in zip(DataLoader(data, batch_size=12), dataset.loader(batch_size=12), strict=True):
        assert isinstance(found, Sample) and same(found, expected)


def test_a_batch_costs_one_gather(data: MapDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = data.__getitems__([3, 1, 29])
    monkeypatch.setattr(Rows, "__getitem__", lambda *_: pytest.fail("a row was made"))

    assert ladd.collate(rows).index.tolist() == [3, 1, 29]


def test_batches_that_are_kept_are_not_overwritten(dataset: Dataset, data: MapDataset) -> None:
    kept = [batch for _ in range(3) for batch in DataLoader(data, batch_size=6, collate_fn=ladd.collate)]

    assert all(same(one, other) for one, other in zip(kept, 3 * list(dataset.loader(batch_size=6)), strict=True))


def test_subsets_keep_torchs_collate_and_ours_says_so(data: MapDataset) -> None:
    subset = Subset(data, [4, 2])

    assert next(iter(DataLoader(subset, batch_size=2))).index.tolist() == [4, 2]


def test_collate_refuses_what_is_not_ours() -> None:
    with pytest.raises(ladd.UsageError, match="collate_fn"):
        ladd.collate([])


def test_drawn_views_go_with_their_labels(dataset: Dataset, data: MapDataset) -> None:
    batch = ladd.collate(data.__getitems__([5, 6]))
    views = batch.views(4)

    assert views.weight == 25 / 4 and batch.dense is not None
    assert torch.equal(views.dense, batch.dense[:, list(views.numbers)])
    assert torch.equal(views.pixels, dataset.views(batch.image, views.numbers))
    with pytest.raises(ladd.UsageError, match="k 26"):
        batch.views(26)


def test_batches_move_as_tensors_do(data: MapDataset) -> None:
    batch = ladd.collate(data.__getitems__([0, 1]))
    moved = batch.to("meta")

    assert moved.image.is_meta and moved.dense is not None and moved.dense.is_meta and moved.soft is None
    assert not batch.image.is_meta


# workers: nothing open is pickled


def test_pickled_it_is_a_path_and_reads_the_same(data: MapDataset) -> None:
    _ = data[0]
    state = pickle.dumps(data)

    assert len(state) < 10_000
    assert same(pickle.loads(state)[7], data[7])


def test_a_dataset_replaced_meanwhile_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADD_CACHE", str(tmp_path / "cache"))
    convert(prepare(make_distilled(), "tiny"), tmp_path / "set")
    state = pickle.dumps(ladd.load(tmp_path / "set"))
    convert(prepare(make_distilled(seed=1), "tiny"), tmp_path / "set", overwrite=True)

    with pytest.raises(ladd.DatasetError, match="replaced"):
        pickle.loads(state)


# torchdata, accelerate, Lightning


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 of torch 2.15
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_in_the_middle_of_an_epoch(data: MapDataset, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def make() -> Any:
        torch.manual_seed(3)
        return stateful.StatefulDataLoader(
            data, batch_size=4, shuffle=True, num_workers=workers, collate_fn=ladd.collate
        )

    loader = make()
    passing = iter(loader)
    seen = [next(passing) for _ in range(3)]
    state = loader.state_dict()
    expected = list(passing)

    resumed = make()
    resumed.load_state_dict(state)
    found = list(resumed)
    assert len(found) == 5 and all(same(one, other) for one, other in zip(found, expected, strict=True))
    assert sorted(number for batch in seen + found for number in batch.index.tolist()) == list(range(30))


def test_accelerate_prepares_the_loader(data: MapDataset) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(3 * 32 * 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(data, batch_size=10, shuffle=True, collate_fn=ladd.collate)

    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    seen = []
    for batch in loader:
        views = batch.views(5)
        logits = model(views.pixels.flatten(0, 1).flatten(1))
        accelerator.backward(torch.nn.functional.cross_entropy(logits, views.dense.flatten(0, 1)))
        optimizer.step()
        seen += batch.index.tolist()

    assert sorted(seen) == list(range(30)) and model.weight.grad is not None


@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers", "ignore:.*litlogger")
def test_lightning_trains_a_step(data: MapDataset, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason=LIGHTNING)
    seen: list[ladd.Batch] = []

    class Data(lightning.LightningDataModule):  # type: ignore[misc, name-defined]
        def train_dataloader(self) -> DataLoader[Sample]:
            return DataLoader(data, batch_size=10, collate_fn=ladd.collate)

    class Model(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(3 * 32 * 32, 3)

        def training_step(self, batch: ladd.Batch, number: int) -> torch.Tensor:
            seen.append(batch)
            views = batch.views()
            logits = self.net(views.pixels.flatten(0, 1).flatten(1))
            return torch.nn.functional.cross_entropy(logits, views.dense.flatten(0, 1))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Model(), Data())

    assert len(seen) == 1 and seen[0].index.tolist() == list(range(10))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated", "ignore:.*litlogger")
@pytest.mark.parametrize("package", ["torchdata", "accelerate", "lightning"])
def test_the_loading_pages_example_runs(data: MapDataset, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    page = (Path(__file__).parents[1] / "docs" / "loading.md").read_text()
    (snippet,) = [code for code in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if f"{package}" in code]

    exec(compile(snippet, "loading.md", "exec"), {"data": data, "ladd": ladd, "DataLoader": DataLoader})


# datasets


@pytest.mark.parametrize("edition", ["parquet", "webdataset", "arrow"])
def test_to_datasets_is_what_load_dataset_gives(
    labelled: Path, edition: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    export_dataset(ladd.load(labelled), edition, tmp_path / "set")
    expected = datasets.load_dataset(str(labelled), split="train")

    found = ladd.load(tmp_path / "set").to_datasets()

    assert isinstance(found, datasets.Dataset) and found.features == expected.features
    assert isinstance(found.features["image"], datasets.Image)
    assert isinstance(found.features["label"], datasets.ClassLabel)
    assert found.features["dense_log_probs"].length == 25
    assert found.data.table.combine_chunks().equals(expected.data.table.combine_chunks())
    assert found[5]["image"].tobytes() == expected[5]["image"].tobytes()


def test_formats_of_datasets_keep_pictures_and_widen_lists_as_the_page_says(labelled: Path, tmp_path: Path) -> None:
    export_dataset(ladd.load(labelled), "arrow", tmp_path / "arrow")
    code = f"""import datasets, torch
for path in ({str(labelled)!r}, {str(tmp_path / "arrow")!r}):
    train = datasets.load_dataset(path, split="train")
    record = train.with_format("torch")[0]
    print(tuple(record["image"].shape), *(record[name].dtype for name in ("image", "label", "dense_log_probs")))
print(train.with_format("torch", dtype=torch.uint8, columns=["image"])[0]["image"].dtype)"""

    assert run_plainly(code, tmp_path).splitlines() == [
        "(3, 32, 32) torch.uint8 torch.int64 torch.float32",
        "(3, 32, 32) torch.int64 torch.int64 torch.float32",
        "torch.uint8",
    ]
