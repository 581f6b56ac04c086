"""The forms that benchmarks/loaders.py compares: how each is written, and how a user would read it.

Every reader takes a folder and a batch size and returns a function of the epoch, which yields batches of images,
classes and dense labels. Peers are imported where they are used, because they need not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from format import CODING, describe
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

import ladd_data as ladd
from ladd_data.encodings.coding import column_types, encode_labels
from ladd_data.files import canonical_json
from ladd_data.manifest import Classes
from ladd_data.manifest_json import parse_manifest
from ladd_data.png import PngKind, encode_png
from ladd_data.shards.layout import Layout, Records
from ladd_data.types import Edition
from ladd_data.writer import new_dataset

VIEWS, UNIQUE, BLOCK = 25, 1000, 500
"""Records repeat after UNIQUE ones: what is measured does not depend on it, and writing is quick."""

Epochs = Callable[[int], Iterable[Any]]


@dataclass(frozen=True)
class Base:
    """The records that every form holds."""

    count: int
    classes: int
    size: int

    def block(self, start: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
        """Return images, classes and logits of up to BLOCK records; noise with the spread of distilled pixels."""
        generator = np.random.default_rng(start % UNIQUE)
        rows = min(BLOCK, self.count - start)
        pixels = generator.normal(128, 55, (BLOCK, 3, self.size, self.size)).clip(0, 255).astype(np.uint8)
        logits = generator.normal(0, 3, (BLOCK, VIEWS, self.classes)).astype(np.float32)
        return pixels[:rows], np.arange(start, start + rows) % self.classes, logits[:rows]

    def starts(self) -> range:
        """Return where blocks begin."""
        return range(0, self.count, BLOCK)

    def samples(self) -> Iterator[tuple[int, Any, int, Any]]:
        """Yield (number, image uint8, class, dense labels float16) one by one."""
        made: dict[int, Any] = {}
        for start in self.starts():
            if start % UNIQUE not in made:
                pixels, _, logits = self.block(start % UNIQUE if start + BLOCK <= self.count else start)
                made[start % UNIQUE] = (pixels, encode_labels(logits, CODING)["dense_log_probs"])
            pixels, dense = made[start % UNIQUE]
            for row in range(min(BLOCK, self.count - start)):
                yield start + row, pixels[row], (start + row) % self.classes, dense[row]


@lru_cache(maxsize=2 * UNIQUE // BLOCK)
def encode_block(size: int, start: int, kind: PngKind) -> list[bytes]:
    """Return the PNG files of a block; they are the same in every form, for any number of classes."""
    return [encode_png(image, kind) for image in Base(UNIQUE, 1, size).block(start)[0]]


def write_arrays(base: Base, folder: Path) -> None:
    shapes = {"image": (3, base.size, base.size), "label": (), "dense": (VIEWS, base.classes)}
    kinds = {"image": np.uint8, "label": np.int64, "dense": np.float16}
    maps = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kinds[name], (base.count, *shape))
        for name, shape in shapes.items()
    }
    for number, image, label, dense in base.samples():
        maps["image"][number], maps["label"][number], maps["dense"][number] = image, label, dense


def read_arrays(folder: Path, batch: int, records: int | None = None) -> Epochs:
    maps = [np.load(folder / f"{name}.npy", mmap_mode="r")[:records] for name in ("image", "label", "dense")]

    def epoch(number: int) -> Iterator[Any]:
        order = np.random.default_rng(number).permutation(len(maps[0]))
        for start in range(0, len(order), batch):
            yield [np.take(values, order[start : start + batch], axis=0) for values in maps]

    return epoch


def write_ladd(kind: PngKind, edition: Edition) -> Callable[[Base, Path], None]:
    def write(base: Base, folder: Path) -> None:
        classes = Classes(names=tuple(f"c{number:04d}" for number in range(base.classes)))
        layout = Layout(classes.names, column_types(CODING, VIEWS, base.classes), (3, base.size, base.size), kind)
        made: dict[int, Any] = {}
        first: Any = None
        with new_dataset(folder / "set", classes, layout, base.count, edition=edition) as writer:
            for start in base.starts():
                if start % UNIQUE not in made:
                    pixels, _, logits = base.block(start % UNIQUE)
                    made[start % UNIQUE] = (
                        pixels,
                        encode_labels(logits, CODING),
                        encode_block(base.size, start % UNIQUE, kind),
                    )
                pixels, dense, images = made[start % UNIQUE]
                rows = min(BLOCK, base.count - start)
                ids = [f"{number:07d}" for number in range(start, start + rows)]
                kept = {name: values[:rows] for name, values in dense.items()}
                labels = np.arange(start, start + rows, dtype=np.int64) % base.classes
                records = Records(ids, labels, images[:rows], kept)
                first = first or (records, pixels)
                writer.add(records, pixels[:rows])
            names = {"classes": classes.model_dump(mode="json")}
            writer.finish(
                lambda found: parse_manifest(
                    canonical_json(describe(base.count, base.size, kind, first, found) | names)
                )
            )

    return write


def read_stream(folder: Path, batch: int) -> Epochs:
    loader = ladd.stream(folder / "set", batch, shuffle=True)
    return lambda number: loader


def read_ours(placement: Any) -> Callable[[Path, int], Epochs]:
    def read(folder: Path, batch: int) -> Epochs:
        loader = ladd.load(folder / "set").loader(batch, shuffle=True, placement=placement)
        return lambda number: loader

    return read


def read_map_style(workers: int) -> Callable[[Path, int], Epochs]:
    def read(folder: Path, batch: int) -> Epochs:
        data = ladd.load(folder / "set").to_torch()
        loader: DataLoader[Any] = DataLoader(
            data, batch, shuffle=True, num_workers=workers, collate_fn=ladd.collate, persistent_workers=workers > 0
        )
        return lambda number: loader

    return read


def write_tensors(base: Base, folder: Path) -> None:
    write_arrays(base, folder)
    names = ("image", "label", "dense")
    torch.save([torch.from_numpy(np.load(folder / f"{name}.npy")) for name in names], folder / "all.pt")
    for name in names:
        (folder / f"{name}.npy").unlink()


def read_tensors(folder: Path, batch: int) -> Epochs:
    loader = DataLoader(TensorDataset(*torch.load(folder / "all.pt")), batch, shuffle=True)
    return lambda number: loader


def write_pictures(base: Base, folder: Path) -> None:
    shape = (base.count, VIEWS, base.classes)
    labels = np.lib.format.open_memmap(folder / "dense.npy", "w+", np.float16, shape)
    for number, _, label, dense in base.samples():
        start = number % UNIQUE // BLOCK * BLOCK
        place = folder / "images" / f"{label:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.png").write_bytes(encode_block(base.size, start, "small")[number % BLOCK])
        labels[number] = dense


def read_pictures(folder: Path, batch: int) -> Epochs:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    dense = np.load(folder / "dense.npy", mmap_mode="r")

    class WithLabels(ImageFolder):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            number = int(Path(self.samples[index][0]).stem)
            return image, label, torch.from_numpy(np.array(dense[number]))

    loader: DataLoader[Any] = DataLoader(WithLabels(str(folder / "images"), pil_to_tensor), batch, shuffle=True)
    return lambda number: loader


def read_webdataset(folder: Path, batch: int) -> Epochs:
    import webdataset

    shards = sorted(str(path) for path in (folder / "set" / "data").glob("*.tar"))
    records = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).decode("torchrgb8")
    loader = records.to_tuple("png", "cls", "dense_log_probs.npy").batched(batch)
    return lambda number: loader


def read_datasets(*, streaming: bool) -> Callable[[Path, int], Epochs]:
    def read(folder: Path, batch: int) -> Epochs:
        import datasets

        datasets.disable_progress_bars()
        data = datasets.load_dataset(str(folder / "set"), split="train", streaming=streaming)
        data = data.select_columns(["image", "label", "dense_log_probs"]).with_format("torch")
        if not streaming:
            loader: DataLoader[Any] = DataLoader(data, batch, shuffle=True)
            return lambda number: loader
        return lambda number: DataLoader(data.shuffle(seed=number, buffer_size=1000), batch)

    return read


def write_mds(base: Base, folder: Path) -> None:
    from streaming import MDSWriter

    columns = {
        "image": f"ndarray:uint8:3,{base.size},{base.size}",
        "label": "int",
        "dense": f"ndarray:float16:{VIEWS},{base.classes}",
    }
    with MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for _, image, label, dense in base.samples():
            writer.write({"image": image, "label": label, "dense": dense})


def read_mds(folder: Path, batch: int) -> Epochs:
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    data = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=batch)
    loader = DataLoader(data, batch)
    return lambda number: loader


def write_litdata(base: Base, folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "lit"), chunk_bytes="64MB")
    (folder / "lit").mkdir(exist_ok=True)
    for number, image, label, dense in base.samples():
        writer[number] = {"image": image, "label": label, "dense": dense}
    writer.done()
    writer.merge()


def read_litdata(folder: Path, batch: int) -> Epochs:
    from litdata import StreamingDataLoader, StreamingDataset

    loader = StreamingDataLoader(StreamingDataset(str(folder / "lit"), shuffle=True), batch_size=batch)
    return lambda number: loader


@dataclass(frozen=True)
class Case:
    """One form: its name, what writes it (a key of WRITERS), what reads it, and the packages it needs."""

    name: str
    form: str
    read: Callable[[Path, int], Epochs]
    needs: tuple[str, ...] = ()


WRITERS: dict[str, Callable[[Base, Path], None]] = {
    "arrays": write_arrays,
    "stored Parquet": write_ladd("stored", "parquet"),
    "small Parquet": write_ladd("small", "parquet"),
    "stored tar": write_ladd("stored", "webdataset"),
    "small tar": write_ladd("small", "webdataset"),
    "tensors": write_tensors,
    "pictures": write_pictures,
    "mds": write_mds,
    "litdata": write_litdata,
}

CASES = [
    Case("limit: np.take from memmaps", "arrays", read_arrays),
    Case("ladd resident", "stored Parquet", read_ours("resident")),
    Case("ladd cached", "stored Parquet", read_ours("cached")),
    Case("ladd streaming, stored PNG", "stored Parquet", read_stream),
    Case("ladd to_torch, 0 workers", "stored Parquet", read_map_style(0)),
    Case("ladd to_torch, 2 workers", "stored Parquet", read_map_style(2)),
    Case("datasets map, stored PNG", "stored Parquet", read_datasets(streaming=False)),
    Case("datasets streaming, stored PNG", "stored Parquet", read_datasets(streaming=True)),
    Case("WebDataset, stored PNG", "stored tar", read_webdataset),
    Case("ladd streaming, ordinary PNG", "small Parquet", read_stream),
    Case("datasets map, ordinary PNG", "small Parquet", read_datasets(streaming=False)),
    Case("datasets streaming, ordinary PNG", "small Parquet", read_datasets(streaming=True)),
    Case("WebDataset, ordinary PNG", "small tar", read_webdataset),
    Case("ImageFolder, ordinary PNG + .npy", "pictures", read_pictures),
    Case("TensorDataset from .pt", "tensors", read_tensors),
    Case("mosaicml-streaming, raw arrays", "mds", read_mds, ("streaming",)),
    Case("LitData, raw arrays", "litdata", read_litdata, ("litdata",)),
]
