"""Losses of the deployment stage. Each takes a batch as the loaders yield it, and the dataset for its views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ladd_data.dataset import Dataset
from ladd_data.errors import UsageError, nearest


class Loss(Protocol):
    """What a loss is: a callable on one batch that returns the scalar to minimise."""

    def __call__(
        self,
        model: nn.Module,
        image: Tensor,
        label: Tensor,
        dense: Tensor | None,
        dataset: Dataset,
        index: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch: image uint8 [B,C,H,W], label int64 [B], dense probabilities [B,V,classes]."""


class HardLabels:
    """Cross-entropy of the full images against their hard labels: the baseline without dense labels."""

    def __call__(
        self,
        model: nn.Module,
        image: Tensor,
        label: Tensor,
        dense: Tensor | None,
        dataset: Dataset,
        index: Tensor | None = None,
    ) -> Tensor:
        """Return CE(model(x), y), mean over images."""
        return functional.cross_entropy(model(dataset.model_input(image)), label)


class LADD:
    """CE of the full image and its hard label, plus the sum over views of CE of the view and its dense label.

    Source: LADD, Eq. 5. The paper sums over views and does not state the reduction over images; here it
    is the mean over images.
    """

    def __init__(self, view_reduction: Literal["sum", "mean"] = "sum", views_per_pass: int | None = None) -> None:
        """Choose how views add up.

        Args:
            view_reduction: "sum" is Eq. 5, in which 25 views weigh 25 times the full image; "mean"
                weighs them as one.
            views_per_pass: views of each image in one forward pass; None for all at once. Smaller
                needs less memory; networks with batch statistics see other batches.
        """
        if view_reduction not in ("sum", "mean"):
            raise UsageError(
                f'view_reduction "{view_reduction}" is not known. {nearest(view_reduction, ["sum", "mean"])}'
            )
        self.view_reduction, self.views_per_pass = view_reduction, views_per_pass

    def __call__(
        self,
        model: nn.Module,
        image: Tensor,
        label: Tensor,
        dense: Tensor | None,
        dataset: Dataset,
        index: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            model: maps model input [n, channels, height, width] to logits [n, classes].
            image: uint8 [batch, channels, height, width], stored pixels.
            label: int64 [batch].
            dense: float32 [batch, views, classes], probabilities; all 0 for a view that is missing, which then
                adds nothing.
            dataset: defines the views and the model input.
            index: int64 [batch], the records' numbers; needed only where views differ from record to record.

        Raises:
            UsageError: there are no dense labels.
        """
        if dense is None:
            raise UsageError('LADD needs dense labels and this dataset has none. Run "ladd label" first.')
        hard = functional.cross_entropy(model(dataset.model_input(image)), label)
        local = image.new_zeros(len(image), dtype=torch.float32)
        count = dense.shape[1]
        for views in _chunks(count, self.views_per_pass or count):
            crops = dataset.views(image, views, index=index)  # [batch, chunk, channels, height, width]
            logits = model(crops.flatten(0, 1))
            target = dense[:, views.start : views.stop].flatten(0, 1)
            losses = functional.cross_entropy(logits, target, reduction="none")
            local = local + losses.reshape(len(image), len(views)).sum(1)
        if self.view_reduction == "mean":
            local = local / dense.sum((1, 2)).clamp_min(1)  # the views that are there
        return hard + local.mean()


def _chunks(count: int, size: int) -> Sequence[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
