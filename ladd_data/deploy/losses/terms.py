"""A loss as the sum of terms: full images and views, each against hard and soft labels (LADD, Table 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ladd_data.deploy.losses.capability import check_image_labels, check_view_labels
from ladd_data.deploy.losses.criterion import SoftLoss, soft_rows
from ladd_data.deploy.losses.hard import HardCE
from ladd_data.deploy.losses.labels import image_labels, view_labels
from ladd_data.deploy.losses.loss import Mixed, Scene, Student, Takes, take_all
from ladd_data.errors import UsageError
from ladd_data.manifest import Manifest
from ladd_data.types import Batch, DenseSpace, SoftLabels, Views

Rows = Callable[[Tensor, Tensor | None], Tensor]
"""(logits [n, classes], order of the labels or None) -> losses [n]."""

_PLAIN = HardCE()


@dataclass(frozen=True, slots=True)
class Terms:
    """Which of the four terms there are, and what each weighs; 0 is none.

    full_hard: CE(z(x), y). full_soft: the soft loss of z(x) and the whole image's soft label. sub_hard: CE(z(S_j x), y)
    over views. sub_soft: the soft loss of z(S_j x) and the view's dense label, over views.
    """

    full_hard: float = 0.0
    full_soft: float = 0.0
    sub_hard: float = 0.0
    sub_soft: float = 0.0


@dataclass(frozen=True, slots=True)
class TermsLoss:
    """Mean over images of the terms of each; over its views the sum or the mean.

    terms: what is added up.
    hard: the loss against hard labels.
    soft: the loss against soft labels; None where no term has any.
    view_reduction: "sum" (Eq. 5), or "mean" over the views that are there.
    views_per_step: views drawn for each batch, in an unbiased estimate of the sum or mean over all; None for all.
    views_per_pass: views of each image in one forward pass; None for all at once. A network with batch statistics
        sees other batches then, so that its training differs. It saves memory where `parts` are used one by one.

    Full images and views never share a forward pass. Missing views add nothing, and records that only fill the
    batch (`batch.mask`) count neither in sums nor in means.
    """

    terms: Terms
    hard: HardCE = _PLAIN
    soft: SoftLoss | None = None
    view_reduction: Literal["sum", "mean"] = "sum"
    views_per_step: int | None = None
    views_per_pass: int | None = None

    @property
    def space(self) -> DenseSpace | None:
        """What `batch.dense` must hold, or None where no term has dense labels."""
        if self.soft is not None and (self.terms.sub_soft or self.terms.full_soft):
            return self.soft.space
        return "probabilities" if self.terms.sub_hard else None

    def loader_space(self, manifest: Manifest) -> DenseSpace:
        """Return what to ask the loader of this dataset for: `space`, or anything where dense labels are not used."""
        own = manifest.soft is not None and not self.terms.sub_soft
        return "probabilities" if self.space is None or own or manifest.labels is None else self.space

    @property
    def formula(self) -> str:
        """In one line, mean over images understood."""
        sign = "sum_j" if self.view_reduction == "sum" else "mean_j"
        soft = self.soft.formula if self.soft is not None else ""
        named = [
            (self.terms.full_hard, f"{self.hard.formula} [x, y]"),
            (self.terms.full_soft, f"{soft} [x, p]"),
            (self.terms.sub_hard, f"{sign} {self.hard.formula} [S_j x, y]"),
            (self.terms.sub_soft, f"{sign} {soft} [S_j x, p_j]"),
        ]
        return " + ".join(text if weight == 1 else f"{weight:g} * {text}" for weight, text in named if weight)

    def check(self, manifest: Manifest) -> None:
        """Refuse a dataset that lacks the labels, or has them so stored that they cannot serve.

        Raises:
            UsageError: says what is stored, what is needed, and what to store instead.
        """
        if self.terms.sub_soft or self.terms.sub_hard:
            check_view_labels(manifest, self.soft if self.terms.sub_soft else None)
            count = manifest.labels.count if manifest.labels is not None else 0
            if self.views_per_step is not None and self.views_per_step > count:
                raise UsageError(f"{self.views_per_step} views per step: this dataset has {count} views an image.")
        if self.terms.full_soft and self.soft is not None:
            check_image_labels(manifest, self.soft)

    def __call__(self, student: Student, batch: Batch, scene: Scene) -> Tensor:
        """Return the loss of a batch, a scalar."""
        return torch.stack(list(self.parts(student, batch, scene))).sum()

    def parts(self, student: Student, batch: Batch, scene: Scene, takes: Takes = take_all) -> Iterator[Tensor]:
        """Yield the loss pass by pass, scalars whose sum it is: first of the full images, then of views."""
        if (self.terms.full_hard or self.terms.full_soft) and takes(1):
            answer = student(scene.model_input(batch.image))
            target = image_labels(batch, scene.manifest, self._soft().space) if self.terms.full_soft else None
            rows = self._rows(answer, batch.label, target, self.terms.full_hard, self.terms.full_soft)
            yield _mean(rows, batch)
        if self.terms.sub_hard or self.terms.sub_soft:
            for views in batch.view_chunks(self.views_per_step, self.views_per_pass, takes):
                answer = student(views.pixels.flatten(0, 1))
                rows = self._view_rows(answer, batch, views, scene).reshape(len(batch), -1)
                yield _mean(self._add_views(rows, batch, views), batch)

    def _add_views(self, rows: Tensor, batch: Batch, views: Views) -> Tensor:
        """Return what the views of one pass, [batch, views], add to the loss of each image, [batch]."""
        there = views.present
        total = views.weight * (rows if there is None else torch.where(there, rows, 0.0)).sum(1)
        if self.view_reduction == "sum":
            return total
        count = batch.dense.shape[1] if batch.dense is not None else 1
        return total / (count if batch.present is None else batch.present.sum(1).clamp_min(1))

    def _view_rows(self, answer: Tensor | Mixed, batch: Batch, views: Views, scene: Scene) -> Tensor:
        label = batch.label.repeat_interleave(len(views.numbers))
        target = view_labels(batch, views, scene.manifest, self._soft().space) if self.terms.sub_soft else None
        return self._rows(answer, label, target, self.terms.sub_hard, self.terms.sub_soft)

    def _rows(
        self, answer: Tensor | Mixed, label: Tensor, target: SoftLabels | None, hard: float, soft: float
    ) -> Tensor:
        """Return the losses of one pass, float64 [n], partners' labels included where pictures were mixed."""
        logits = answer.logits if isinstance(answer, Mixed) else answer

        def against(order: Tensor | None) -> Tensor:
            classes = label if order is None else label[order]
            losses = hard * self.hard.rows(logits, classes) if hard else logits.new_zeros(())
            if target is None:
                return losses
            return losses + soft * soft_rows(self._soft(), logits, target, classes, order)

        if not isinstance(answer, Mixed):
            return against(None)
        return answer.share * against(None) + (1 - answer.share) * against(answer.partner)

    def _soft(self) -> SoftLoss:
        if self.soft is None:
            raise UsageError("a term with soft labels needs a loss against them.")
        return self.soft


def _mean(losses: Tensor, batch: Batch) -> Tensor:
    """Return the mean over the records that count."""
    if batch.mask is None:
        return losses.mean()
    return torch.where(batch.mask, losses, 0.0).sum() / batch.mask.sum().clamp_min(1)
