"""FKD batch files: each row's picture and crop are worked out so that the teacher gives the stored answer again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fkd_runs import MEAN, STD, FkdRun, make_teacher
from ladd_converters.fkd_batches import BatchRows, find_gap, list_batches, pixel_boxes, read_batch
from ladd_converters.fkd_order import folder_listing, listing_digest, read_index_file, sampled_orders
from PIL import Image

from ladd_data import Boxes, ConvertError, UsageError
from ladd_data.views.device import ViewMaker

SIZE = 32


def answers_again(pictures: Path, rows: BatchRows, places: np.ndarray, classes: int) -> float:
    """Return the largest difference between stored outputs and those of the teacher for views made again."""
    names = folder_listing(pictures)
    pixels = np.stack([np.asarray(Image.open(pictures / names[place])).transpose(2, 0, 1) for place in places])
    assert rows.flip is not None
    box, flip = torch.from_numpy(pixel_boxes(rows, SIZE, SIZE))[:, None], torch.from_numpy(rows.flip)[:, None]
    maker = ViewMaker(Boxes(count=1, flip=True, resample="pillow-bilinear"), SIZE, SIZE)
    views = maker(torch.from_numpy(pixels), view_box=box, view_flip=flip)[:, 0] / 255
    views = (views - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    if rows.partner is not None and rows.bbox is not None:
        top, left, bottom, right = rows.bbox
        mixed = views.clone()
        mixed[:, :, top:bottom, left:right] = views[rows.partner][:, :, top:bottom, left:right]
        views = mixed
    elif rows.partner is not None and rows.lam is not None:
        views = views * rows.lam + views[rows.partner] * (1 - rows.lam)
    with torch.no_grad():
        return float((make_teacher(classes)(views) - torch.from_numpy(rows.output.astype(np.float32))).abs().max())


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(FkdRun(), id="cutmix"),
        pytest.param(FkdRun(mixing="mixup"), id="mixup"),
        pytest.param(FkdRun(mixing="none", epochs=3), id="unmixed"),
        pytest.param(FkdRun(with_index=True, batch=4), id="with index"),
        pytest.param(FkdRun(epochs=2, batch=1), id="twelve batches, which sort as text in another order"),
    ],
)
def test_each_row_is_of_the_picture_that_the_teacher_saw(tmp_path: Path, run: FkdRun) -> None:
    pictures, labels = run.write(tmp_path)
    orders = sampled_orders(12, run.epochs)
    files = list_batches(labels)
    at = {epoch: 0 for epoch in range(run.epochs)}
    worst = 0.0

    for file in files:
        assert file.epoch is not None
        rows = read_batch(file)
        places = orders[file.epoch][at[file.epoch] :][: len(rows)]
        at[file.epoch] += len(rows)
        assert rows.index is None or rows.index.tolist() == places.tolist()
        worst = max(worst, answers_again(pictures, rows, places, run.classes))

    assert find_gap(files) is None and set(at.values()) == {12}
    assert worst < 1e-5
    assert answers_again(pictures, rows, (places + 1) % 12, run.classes) > 0.01  # another picture is not taken for it


def test_the_order_is_that_of_torchs_own_sampler() -> None:
    generator = torch.Generator().manual_seed(42)
    sampler = torch.utils.data.RandomSampler(range(23), generator=generator)

    drawn = [list(sampler) for _ in range(4)]

    assert [order.tolist() for order in sampled_orders(23, 4)] == drawn
    assert sampled_orders(23, 4, draws=1)[1].tolist() != drawn[1]


def test_the_listing_is_that_of_torchvisions_image_folder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    for name in ("new10/b.jpg", "new10/a.PNG", "new9/c_10.jpg", "new9/c_9.jpg", "new9/deeper/x.jpeg", "new9/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    listed = folder_listing(tmp_path)

    assert [str(tmp_path / name) for name in listed] == [path for path, _ in ImageFolder(str(tmp_path)).samples]
    (tmp_path / "new9/c_9.jpg").rename(tmp_path / "new9/c_09.jpg")
    assert listing_digest(folder_listing(tmp_path)) != listing_digest(listed)


def test_the_index_file_states_the_order(tmp_path: Path) -> None:
    _, labels = FkdRun(json=True).write(tmp_path)

    orders = read_index_file(labels, 12, 2)

    assert [order.tolist() for order in orders] == [order.tolist() for order in sampled_orders(12, 2)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"0": [0]}', "KeyError"),
        (json.dumps({"0": list(range(11)), "1": list(range(11))}), "epochs of all of 11 pictures; there are 12"),
        (json.dumps({"0": list(range(12)), "1": [*range(11), 12]}), "places 0 .. 12 in epoch 1"),
        (json.dumps({"0": [0, *range(11)], "1": list(range(12))}), "picture 0 twice in epoch 0"),
        (json.dumps({"0": [1.5] * 12, "1": ["x"] * 12}), "found something else"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_an_index_file_of_another_run_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "sampler_indices_epoch.json").write_text(content)

    with pytest.raises(ConvertError, match=r"sampler_indices_epoch\.json") as caught:
        read_index_file(tmp_path, 12, 2)

    assert words in str(caught.value)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    _, labels = FkdRun(epochs=3).write(tmp_path)

    (labels / "epoch_1" / "batch_1.tar").unlink()
    assert find_gap(list_batches(labels)) == "epoch_1/batch_1.tar"
    for batch in (0, 2):
        (labels / "epoch_1" / f"batch_{batch}.tar").unlink()
    assert find_gap(list_batches(labels)) == "epoch_1/batch_0.tar"
    with pytest.raises(UsageError, match="found no batch files"):
        list_batches(tmp_path / "images")


def change(place: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda content: [value(item) if number == place else item for number, item in enumerate(content)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda content: content[:5], "expected a list of 6 to 8"),
        (change(0, lambda item: item[:, :3]), "coords float32 [5, 3]; expected [rows, 4]"),
        (change(0, lambda item: item.long()), "int64 [5, 4] in field 0 (coords); expected floats"),
        (change(1, lambda item: item[:4]), "bool [4] in field 1"),
        (change(2, lambda item: item + 1), "mix_index 1 .. 5 in 5 rows"),
        (change(3, lambda item: 1.5), "field 3 (lambda); expected 0 .. 1"),
        (change(4, lambda item: [20, 0, 10, 5]), "field 4 (bbox)"),
        (change(4, lambda item: [1, 2, 3]), "field 4 (bbox)"),
        (change(5, lambda item: item[:3]), "[3, 4] in field 5 (outputs)"),
        (change(5, lambda item: item * torch.inf), "NaN or infinity"),
    ],
)
def test_fields_that_do_not_fit_are_named(
    tmp_path: Path, changed: Callable[[list[Any]], list[Any]], words: str
) -> None:
    _, labels = FkdRun(epochs=1).write(tmp_path)
    file = list_batches(labels)[0]
    content = torch.load(file.path, weights_only=False)
    torch.save(changed(content), file.path)

    with pytest.raises(ConvertError, match=r"batch_0\.tar") as caught:
        read_batch(file)

    assert words in str(caught.value)


def test_pictures_of_another_size_are_noticed(tmp_path: Path) -> None:
    _, labels = FkdRun(epochs=1).write(tmp_path)

    with pytest.raises(ConvertError, match="expected whole numbers inside pictures of 45x45"):
        pixel_boxes(read_batch(list_batches(labels)[0]), 45, 45)
