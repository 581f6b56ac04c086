"""An FKD run converted, published, loaded by name and replayed: what upstream's own loop sees, record by record.

Upstream's loop is repeated here from its description, with torchvision and torch alone: SRe2L's `train_FKD.py` and the
FKD classes it uses (a sampler of one generator, `RandomResizedCropWithCoords`, `mix_aug`, the loss of `kldiv_loss`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from fkd_runs import MEAN, STD, FkdRun
from hub_client import Hub
from torch import Tensor
from torch.nn import functional
from torch.utils.data import RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as pictures_to

import ladd_data as ladd
from ladd_data.cli import main
from ladd_data.deploy.losses import loss_of

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
Key = tuple[str, int]
Ladd = Callable[..., str]
SIDE = 32


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ladd:
    """Call the command line in this process, and return what it prints."""

    def call(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["ladd", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert int(stop.value.code or 0) == code, said
        return said.out if code == 0 else said.err

    return call


def replay_upstream(pictures: Path, labels: Path, run: FkdRun) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Yield (picture, epoch, its view float32 [3, side, side] as the network gets it, its stored logits)."""
    folder, generator = ImageFolder(str(pictures)), torch.Generator()
    generator.manual_seed(42)
    sampler = RandomSampler(folder, generator=generator)
    for epoch in range(run.epochs):
        order = list(sampler)
        for number in range(-(-len(order) // run.batch)):
            rows = order[number * run.batch : (number + 1) * run.batch]
            file = labels / f"epoch_{epoch}" / f"batch_{number}.tar"
            coords, flips, partner, lam, box, logits = torch.load(file, weights_only=False)[:6]
            places = zip(rows, coords, flips, strict=True)
            views = torch.stack([_cut(folder[row][0], place, flip) for row, place, flip in places])
            mixed = _mix(views, partner, lam, box)
            yield from zip(rows, [epoch] * len(rows), mixed, logits.float(), strict=True)


def _cut(picture: Any, coords: Tensor, flip: Tensor) -> Tensor:
    """Return a view as `Compose_FKD` makes it: crop, resize to the side, flip, to tensor, normalise."""
    top, left = coords[0].item() * picture.size[1], coords[1].item() * picture.size[0]
    high, wide = coords[2].item() * picture.size[1], coords[3].item() * picture.size[0]
    view = pictures_to.resized_crop(picture, top, left, high, wide, [SIDE, SIDE], InterpolationMode.BILINEAR)
    tensor = pictures_to.to_tensor(pictures_to.hflip(view) if flip else view)
    return Tensor(pictures_to.normalize(tensor, list(MEAN), list(STD)))


def _mix(views: Tensor, partner: Tensor | None, lam: float | None, box: Any) -> Tensor:
    if partner is None or lam is None:
        return views
    if box is None:
        return views * lam + views[partner] * (1 - lam)
    mixed = views.clone()
    mixed[:, :, box[0] : box[2], box[1] : box[3]] = views[partner][:, :, box[0] : box[2], box[1] : box[3]]
    return mixed


def seen_upstream(pictures: Path, labels: Path, run: FkdRun) -> dict[Key, tuple[Tensor, Tensor]]:
    """Return (view, logits) by the picture's path and the epoch."""
    names = [Path(path).relative_to(pictures).as_posix() for path, _ in ImageFolder(str(pictures)).samples]
    seen = {(names[row], epoch): (view, logits) for row, epoch, view, logits in replay_upstream(pictures, labels, run)}
    assert len(seen) == len(names) * run.epochs
    return seen


def record_names(pictures: Path, dataset: ladd.Dataset) -> list[str]:
    """Return the picture's path of each record, found by its JPEG file's bytes, not by any order of ours."""
    files = {path.read_bytes(): path.relative_to(pictures).as_posix() for path in pictures.rglob("*.jpg")}
    return [files[bytes(image)] for _, _, records in dataset.folder.records() for image in records.images]


def publish(run: Ladd, pictures: Path, labels: Path, repo: str, home: Path) -> None:
    """Convert a run and push it, by the command line."""
    told = ["--images", pictures, "--classes", "a,b,c,d", "--normalization", _say(MEAN) + "/" + _say(STD)]
    run("convert", "fkd", labels, *told, "-o", home / "converted")
    run("push", home / "converted", repo)


def _say(values: tuple[float, ...]) -> str:
    return ",".join(map(str, values))


@pytest.mark.parametrize("mixing", ["cutmix", "mixup", "none"])
def test_a_published_run_replays_what_upstream_sees_record_by_record(
    hub: Hub, repo: str, tmp_path: Path, run: Ladd, mixing: Any
) -> None:
    source = FkdRun(mixing=mixing, epochs=3, batch=5)
    pictures, labels = source.write(tmp_path / "source")
    expected = seen_upstream(pictures, labels, source)
    publish(run, pictures, labels, repo, tmp_path)

    dataset = ladd.load(repo, labels="fkd")

    names = record_names(pictures, dataset)
    plans: list[tuple[int, Literal["resident", "cached"], int]]
    plans = [(1, "resident", 1), (5, "cached", 1), (12, "resident", 1), (4, "cached", 2)]
    for size, placement, ranks in plans:
        seen = set()
        for rank in range(ranks):
            loader = dataset.loader(
                size, shuffle=True, seed=3, space="logits", placement=placement, rank=rank, world=ranks
            )
            for batch in loader:
                views = batch.views()
                for row, record in enumerate(batch.index.tolist()):
                    for view in range(source.epochs):
                        key = (names[record], view)
                        cut, logits = expected[key]
                        torch.testing.assert_close(views.pixels[row, view], cut, rtol=0, atol=2e-6)
                        torch.testing.assert_close(views.dense[row, view], logits, rtol=0, atol=2e-6)
                        seen.add(key)
        assert seen == expected.keys()
    stored = dataset.arrays.dense["dense_logits"]
    for record, name in enumerate(names):
        for view in range(source.epochs):
            np.testing.assert_array_equal(stored[record, view], expected[name, view][1].numpy())


def test_its_loss_is_upstreams_at_20_degrees_without_the_square(hub: Hub, repo: str, tmp_path: Path, run: Ladd) -> None:
    source = FkdRun(epochs=2, batch=5)
    pictures, labels = source.write(tmp_path / "source")
    expected = seen_upstream(pictures, labels, source)
    publish(run, pictures, labels, repo, tmp_path)
    dataset = ladd.load(repo, labels="fkd")
    recipe = dataset.manifest.recipe
    assert (recipe.loss, recipe.temperature, recipe.temperature_squared) == ("kl", 20.0, False)
    assert recipe.views_per_step == 1
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, 4))

    cuts, logits = (torch.stack(part) for part in zip(*expected.values(), strict=True))
    with torch.no_grad():
        answers = functional.log_softmax(student(cuts) / 20, 1)
        upstream = functional.kl_div(answers, functional.softmax(logits / 20, 1), reduction="batchmean").item()

    loss = loss_of(recipe.model_copy(update={"views_per_step": None}))
    for size in (1, 3, 12):
        total = 0.0
        for batch in dataset.loader(size, shuffle=True, space=loss.loader_space(dataset.manifest)):
            with torch.no_grad():
                total += float(loss(student, batch, dataset)) * len(batch.index) / 12
        assert total == pytest.approx(upstream, rel=1e-5)


def test_students_train_on_the_published_labels_by_name(hub: Hub, repo: str, tmp_path: Path, run: Ladd) -> None:
    pictures, labels = FkdRun(epochs=2).write(tmp_path / "source")
    publish(run, pictures, labels, repo, tmp_path)
    np.savez(tmp_path / "val.npz", images=np.zeros((4, SIDE, SIDE, 3), np.uint8), labels=np.arange(4))
    call = ["--labels", "fkd", "--val", tmp_path / "val.npz", "--width", 8, "--epochs", 2, "--seeds", 1, "--json"]

    results = [json.loads(run("train", place, *call, "--batch-size", 5)) for place in (repo, tmp_path / "converted")]

    assert results[0]["seeds"][0]["loss"] == results[1]["seeds"][0]["loss"]
    assert results[0]["dataset"] == ladd.load(repo, labels="fkd").manifest.digest
    assert results[0]["seeds"][0]["steps"] == 2 * 3
