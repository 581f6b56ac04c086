"""Batches by hand, a student that is a table of logits, and each loss written once more in float64, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ladd_data.deploy.losses import Scene, TermsLoss
from ladd_data.manifest import Boxes
from ladd_data.recipe import Recipe
from ladd_data.types import Batch, DenseSpace

SPACES: dict[str, DenseSpace] = {
    "ladd": "probabilities",
    "soft-ce": "probabilities",
    "soft-ce-ce": "probabilities",
    "kl": "log_probabilities",
    "kl-ce": "log_probabilities",
    "topk-kl": "log_probabilities",
    "mse": "logits",
    "mse-ce": "logits",
    "gift": "logits",
}


class Table:
    """A "network" whose logits are leaves: picture number n of the case answers with row n."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows.requires_grad_()

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.rows[pictures[:, 0, 0, 0].long()]


@dataclass
class Case:
    """Images, views and labels of one batch, and a student's logits for them.

    The student's rows are the full images first, then the views, image by image. `teacher` holds float32 logits
    [batch, views, classes], of which the labels in each space are made.
    """

    teacher: Tensor
    label: Tensor
    student: Tensor
    present: Tensor | None = None
    mask: Tensor | None = None
    temperature: float = 1.0
    drawn: tuple[int, ...] | None = None
    own: Tensor | None = None
    own_space: Any = None
    own_temperature: float = 1.0
    rows: Table = field(init=False)

    def __post_init__(self) -> None:
        self.rows = Table(self.student.clone())

    @property
    def batch_size(self) -> int:
        return len(self.label)

    @property
    def views(self) -> int:
        return self.teacher.shape[1]

    def stored(self, space: DenseSpace) -> Tensor:
        """Return dense labels as a loader would: float32, the rows of missing views all 0."""
        divided = self.teacher / self.temperature
        values = {
            "probabilities": divided.softmax(-1),
            "log_probabilities": divided.log_softmax(-1),
            "logits": divided,
        }[space]
        return values if self.present is None else torch.where(self.present[..., None], values, 0.0)

    def batch(self, space: DenseSpace) -> Batch:
        index = torch.arange(self.batch_size)
        pixels = torch.arange(self.batch_size).reshape(-1, 1, 1, 1)
        batch = Batch(pixels, self.label, self.stored(space), index, self.present, self.own, self.mask)
        object.__setattr__(batch, "space", space)
        object.__setattr__(batch, "soft_space", self.own_space)
        object.__setattr__(batch, "cutter", self)
        return batch

    def draw(self, k: int | None) -> tuple[int, ...]:
        return tuple(range(self.views)) if k is None else cast("tuple[int, ...]", self.drawn)

    def cut(self, batch: Batch, numbers: tuple[int, ...]) -> Tensor:
        first = self.batch_size + torch.arange(self.batch_size)[:, None] * self.views
        return (first + torch.tensor(numbers))[..., None, None, None].float()

    @property
    def scene(self) -> Scene:
        labels = SimpleNamespace(temperature=self.temperature, views=Boxes(count=self.views))
        soft = None if self.own is None else SimpleNamespace(space=self.own_space, temperature=self.own_temperature)
        manifest = SimpleNamespace(labels=labels, soft=soft)
        return cast(Scene, SimpleNamespace(manifest=manifest, model_input=lambda images: images.float()))

    def run(self, loss: TermsLoss) -> tuple[float, Tensor]:
        """Return the loss and its gradient with respect to the student's rows."""
        value = loss(self.rows, self.batch(loss.loader_space(self.scene.manifest) or "probabilities"), self.scene)
        return float(value.detach()), torch.autograd.grad(value, self.rows.rows)[0]

    # --- the same in float64, from the definition -------------------------------------------------

    def full(self, z: Tensor, image: int) -> Tensor:
        return z[image]

    def view(self, z: Tensor, image: int, view: int) -> Tensor:
        return z[self.batch_size + image * self.views + view]

    def there(self, image: int) -> Iterator[int]:
        numbers = range(self.views) if self.drawn is None else self.drawn
        return (view for view in numbers if self.present is None or bool(self.present[image, view]))

    def expect(self, of_image: Callable[[Tensor, int], Tensor]) -> tuple[float, Tensor]:
        """Return the mean of a function of (rows, image) over the images that count, and its gradient."""
        z = self.student.double().requires_grad_()
        images = [i for i in range(self.batch_size) if self.mask is None or bool(self.mask[i])]
        total = sum((of_image(z, image) for image in images), 0 * z.sum()) / len(images)
        return float(total.detach()), torch.autograd.grad(total, z)[0]

    def views_part(
        self, row: Callable[[Tensor, Tensor, int], Tensor], reduction: str, space: DenseSpace = "logits"
    ) -> Callable[..., Tensor]:
        """Return the sum or mean over views of row(z of the view, teacher logits of it, class), an unbiased one.

        The teacher's logits are those of the labels in a space, in float32 as a loader hands them out.
        """
        stored = self.stored(space).double()
        teacher = self.temperature * (torch.log(stored) if space == "probabilities" else stored)

        def of_image(z: Tensor, image: int) -> Tensor:
            label, zero = int(self.label[image]), torch.zeros((), dtype=torch.float64)
            rows = [row(self.view(z, image, v), teacher[image, v], label) for v in self.there(image)]
            drawn = self.views if self.drawn is None else len(self.drawn)
            whole = sum(rows, zero) * (self.views / drawn)
            count = self.views if self.present is None else int(self.present[image].sum())
            return whole if reduction == "sum" else whole / max(count, 1)

        return of_image


def log_sum_exp(x: Tensor) -> Tensor:
    top = x.max()
    return top + torch.log(torch.exp(x - top).sum())


def log_s(x: Tensor) -> Tensor:
    return x - log_sum_exp(x)


def hard_ce(z: Tensor, label: int, smoothing: float = 0.0) -> Tensor:
    wanted = torch.full_like(z, smoothing / len(z)).detach()
    wanted[label] += 1 - smoothing
    return -(wanted * log_s(z)).sum()


def soft_ce(z: Tensor, t: Tensor, label: int, temperature: float = 1.0) -> Tensor:
    return -(torch.exp(log_s(t / temperature)) * log_s(z)).sum()


def kl(z: Tensor, t: Tensor, student: float, teacher: float) -> Tensor:
    wanted = log_s(t / teacher)
    return (torch.exp(wanted) * (wanted - log_s(z / student))).sum()


def topk_kl(z: Tensor, t: Tensor, k: int, student: float, teacher: float) -> Tensor:
    kept = torch.from_numpy(np.argsort(-t.detach().numpy(), kind="stable")[:k].copy())
    wanted, found = log_s(t[kept] / teacher), log_s(z / student)[kept]
    return (torch.exp(wanted) * (wanted - found)).sum()


def mse(z: Tensor, t: Tensor, label: int) -> Tensor:
    return ((z - t) ** 2).sum() / len(z)


def gift(z: Tensor, t: Tensor, label: int, form: str, g: float, a: float) -> Tensor:
    hard = torch.full_like(t, a / (len(t) - 1))
    hard[label] = 1 - a
    soft, hard = t / torch.sqrt((t * t).sum()), hard / torch.sqrt((hard * hard).sum())
    q = g * hard + (1 - g) * soft if form == "paper" else soft + g * hard
    zz, qq = torch.sqrt((z * z).sum()), torch.sqrt((q * q).sum())
    return ((z / zz - q / qq) ** 2).sum() / 2  # 1 - cos, as |a - b|^2 = 2 - 2 cos for lengths of 1


def row_of(recipe: Recipe) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Return the soft loss of a recipe as a function of (z, t, class), without its hard part."""
    ts = recipe.temperature or 1.0
    tt = recipe.teacher_temperature or ts
    match recipe.loss:
        case "ladd" | "soft-ce" | "soft-ce-ce":
            return lambda z, t, y: soft_ce(z, t, y, recipe.teacher_temperature or 1.0)
        case "kl" | "kl-ce":
            factor = ts * tt if recipe.temperature_squared else 1.0
            return lambda z, t, y: factor * kl(z, t, ts, tt)
        case "topk-kl":
            return lambda z, t, y: topk_kl(z, t, recipe.top_k or 1, ts, tt)
        case "mse" | "mse-ce":
            return mse
        case _:
            g = 0.1 if recipe.gift_weight is None else recipe.gift_weight
            a = 0.1 if recipe.smoothing is None else recipe.smoothing
            return lambda z, t, y: gift(z, t, y, recipe.gift or "paper", g, a)
