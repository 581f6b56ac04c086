"""What every loader must do, as one check for tests; `ladd_data.testing` hands it out."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.loaders.loader import Loader
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Manifest
from ladd_data.types import Batch, Record


class MakeLoader(Protocol):
    """Makes the loader under test; all options are given by name, as `Dataset.loader` takes them."""

    def __call__(
        self, *, batch_size: int, shuffle: bool, seed: int, last: str, rank: int, world: int, **more: Any
    ) -> Loader:
        """Return a new loader."""


class Truth(Protocol):
    """The dataset that the loader is to load, as `Dataset` is one."""

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""

    def __len__(self) -> int:
        """Records."""

    def __getitem__(self, index: int) -> Record:
        """One record, decoded."""

    def views(self, images: Tensor, views: Sequence[int] | None = None, *, index: Tensor | None = None) -> Tensor:
        """Views as model input."""


def check_loader(make: MakeLoader, dataset: Truth) -> None:
    """Check a loader against the contract: contents, order, ranks, ends of epochs, resuming, views, memory.

    Args:
        make: makes the loader under test.
        dataset: what it loads; at least 5 records.

    Raises:
        AssertionError: the first breach, with what was found and expected.
    """
    _check_contents(make, dataset)
    _check_order(make, len(dataset))
    for shuffle in (False, True):
        _check_ranks(make, len(dataset), shuffle)
        _check_resuming(make, len(dataset), shuffle)
    _check_refusals(make)
    _check_leaving(make)
    if dataset.manifest.labels is not None:
        _check_views(make, dataset)


def _new(make: MakeLoader, batch_size: int, **options: Any) -> Loader:
    plain = {"shuffle": True, "seed": 3, "last": "short", "rank": 0, "world": 1}
    return make(batch_size=batch_size, **{**plain, **options})


def _check_contents(make: MakeLoader, dataset: Truth) -> None:
    """Compare every record of every batch, kept to the end of the pass, with the dataset's."""
    batches = list(_new(make, 2))
    _require(sum(len(batch) for batch in batches) == len(dataset), "a pass does not yield every record")
    for batch in batches:
        image, label, dense = batch
        _require(image is batch.image and label is batch.label and dense is batch.dense, "a batch unpacks otherwise")
        kinds = (batch.image.dtype, batch.label.dtype, batch.index.dtype)
        _require(kinds == (torch.uint8, torch.int64, torch.int64), f"image, label, index are of {kinds}")
        for row, number in enumerate(batch.index.tolist()):
            _check_record(batch, row, dataset[number], f"record {number}")


def _check_record(batch: Batch, row: int, record: Record, where: str) -> None:
    _require(torch.equal(batch.image[row].cpu(), record.image), f"{where}: other pixels")
    _require(int(batch.label[row]) == record.label, f"{where}: class {int(batch.label[row])}, not {record.label}")
    pairs = (
        ("dense", batch.dense, record.dense_labels),
        ("present", batch.present, record.present),
        ("soft", batch.soft, record.soft),
    )
    for name, found, expected in pairs:
        _require((found is None) == (expected is None), f"{where}: {name} is {'missing' if found is None else 'there'}")
        if found is not None and expected is not None:
            _require(found.dtype == expected.dtype, f"{where}: {name} is {found.dtype}, not {expected.dtype}")
            close = torch.allclose(found[row].cpu().float(), expected.float(), rtol=1e-6, atol=1e-7)
            _require(close, f"{where}: {name} differs")


def _check_order(make: MakeLoader, count: int) -> None:
    loader = _new(make, 3)
    _require(len(loader) == -(-count // 3), f"len is {len(loader)} for {count} records by 3")
    passes = [_numbers(loader), _numbers(loader)]
    _require(all(sorted(numbers) == list(range(count)) for numbers in passes), "a pass is no permutation")
    _require(passes[0] != passes[1], "two epochs have the same order")
    if loader.schedule.order.kind == "full":
        expected = [epoch_order(count, 3, epoch).tolist() for epoch in range(2)]
        _require(passes == expected, f"order {passes}; expected epoch_order's, {expected}")
    again = _new(make, 2)
    again.set_epoch(1)
    _require(_numbers(again) == passes[1], "set_epoch(1), or another batch size, gives another order")
    _require(_numbers(_new(make, 3, seed=4)) != passes[0], "another seed gives the same order")
    _require(_numbers(_new(make, 3, shuffle=False)) == list(range(count)), "without shuffle: not in file order")


def _check_ranks(make: MakeLoader, count: int, shuffle: bool) -> None:
    """Check that ranks take equally many steps and, together, every record once."""
    for world in (1, 2, 3):
        for last in ("drop", "short", "wrap"):
            loaders = [_new(make, 2, rank=rank, world=world, last=last, shuffle=shuffle) for rank in range(world)]
            parts = [list(loader) for loader in loaders]
            steps = {len(part) for part in parts} | {len(loader) for loader in loaders}
            where = f'{world} ranks, last="{last}"'
            _require(len(steps) == 1, f"{where}: {[len(part) for part in parts]} steps, len says {len(loaders[0])}")
            order = _numbers(_new(make, 1, shuffle=shuffle))
            wanted = order[: count - count % (2 * world)] if last == "drop" else order
            found = [number for step in zip(*parts, strict=True) for batch in step for number in _counted(batch)]
            _require(found == wanted, f"{where}: together {found}; expected {wanted}")
            if last == "wrap":
                full = all(len(batch) == 2 for part in parts for batch in part)
                _require(full, f"{where}: a batch that is not full")


def _check_resuming(make: MakeLoader, count: int, shuffle: bool) -> None:
    """Stop after every step, and go on in new loaders with other ranks and batch sizes."""
    order = _numbers(_new(make, 1, shuffle=shuffle))
    for stop in range(len(_new(make, 2, shuffle=shuffle))):
        before, state = _run(_new(make, 2, shuffle=shuffle), stop)
        for world, batch_size in ((1, 2), (2, 1), (3, 2)):
            options = {"batch_size": batch_size, "world": world, "shuffle": shuffle}
            loaders = [_new(make, rank=rank, **options) for rank in range(world)]
            for loader in loaders:
                loader.load_state_dict(json.loads(json.dumps(state)))
                loader.set_epoch(0)  # as training loops do: must not lose the place
            steps = zip(*loaders, strict=True)
            after = [number for step in steps for batch in step for number in _counted(batch)]
            where = f"stopped after {stop} steps, resumed on {world} ranks by {batch_size}"
            _require(before + after == order, f"{where}: {before} then {after}; expected {order}")
            _require({loader.epoch for loader in loaders} == {1}, f"{where}: the next epoch is not 1")
    _, ended = _run(_new(make, 2, shuffle=shuffle), None)
    _require((ended["epoch"], ended["done"]) == (1, 0), f"after a whole pass the state is {ended}")


def _check_refusals(make: MakeLoader) -> None:
    state = _new(make, 2).state_dict()
    for key, value in (("dataset", "f" * 64), ("seed", 4), ("order", "other"), ("shuffle", False)):
        try:
            _new(make, 2).load_state_dict({**state, key: value})
        except UsageError as error:
            named = repr(value) in str(error) and repr(state[key]) in str(error)
            _require(named, f"the refusal of another {key} does not name both: {error}")
        else:
            raise AssertionError(f"a state with another {key} was taken")


def _check_leaving(make: MakeLoader) -> None:
    """Leave a pass early: its epoch begins anew, and no thread stays."""
    loader, threads = _new(make, 1), threading.active_count()
    for _ in loader:
        break
    _require(threading.active_count() <= threads, "a thread stayed after a pass was left")
    _require(_numbers(loader) == _numbers(_new(make, 1)), "after leaving a pass its epoch does not begin anew")
    loader, whole = _new(make, 1), _new(make, 1)
    first = [number for _, batch in zip(range(len(loader)), loader, strict=False) for number in _counted(batch)]
    passes = [first, _numbers(loader)]
    _require(passes == [_numbers(whole), _numbers(whole)], "a pass left after its last batch begins anew")


def _check_views(make: MakeLoader, dataset: Truth) -> None:
    count = dataset.manifest.labels.count if dataset.manifest.labels else 0
    for batch, again in zip(_new(make, 2), _new(make, 2), strict=True):
        whole = batch.views()
        same = torch.equal(whole.pixels, dataset.views(batch.image, index=batch.index))
        _require(same and whole.weight == 1 and whole.numbers == tuple(range(count)), "views() are not Dataset.views")
        some, other = batch.views(2 if count > 2 else 1), again.views(2 if count > 2 else 1)
        _require(some.numbers == other.numbers, "the same step draws other views a second time")
        _require(some.weight == count / len(some.numbers), f"weight {some.weight} for {len(some.numbers)} of {count}")
        at = list(some.numbers)
        _require(torch.equal(some.pixels, whole.pixels[:, at]), "drawn views have other pixels")
        _require(torch.equal(some.dense, whole.dense[:, at]), "drawn views have other labels")


def _run(loader: Loader, steps: int | None) -> tuple[list[int], dict[str, Any]]:
    """Take some steps of a pass, and return the numbers seen and the state then."""
    numbers: list[int] = []
    if steps != 0:
        for step, batch in enumerate(loader):
            numbers += _counted(batch)
            if steps is not None and step + 1 == steps:
                break
    return numbers, loader.state_dict()


def _numbers(loader: Loader) -> list[int]:
    return [number for batch in loader for number in _counted(batch)]


def _counted(batch: Batch) -> list[int]:
    """Return the record numbers of a batch without those that are only repeated."""
    index = batch.index if batch.mask is None else batch.index[batch.mask]
    numbers: list[int] = index.tolist()
    return numbers


def _require(held: bool, message: str) -> None:
    if not held:
        raise AssertionError(message)
