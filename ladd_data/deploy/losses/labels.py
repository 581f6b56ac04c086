"""The soft labels of a batch, with their kind: of views as the loader decoded them, of images as they were stored."""

from __future__ import annotations

from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.manifest import Full, Manifest
from ladd_data.types import (
    Batch,
    DenseSpace,
    Logits,
    LogProbabilities,
    Probabilities,
    RegressionTargets,
    SoftLabels,
    Views,
)


def name_dense(values: Tensor, space: DenseSpace, temperature: float) -> SoftLabels:
    """Return what a loader decoded, with its kind."""
    match space:
        case "probabilities":
            return Probabilities(values, temperature)
        case "log_probabilities":
            return LogProbabilities(values, temperature)
        case "logits":
            return Logits(values, temperature)


def view_labels(batch: Batch, views: Views, manifest: Manifest, space: DenseSpace) -> SoftLabels:
    """Return the dense labels of some views, [batch * views, classes].

    Raises:
        UsageError: there are none, or the loader was asked for another space.
    """
    return name_dense(views.dense.flatten(0, 1), _dense_space(batch, space), _temperature(manifest))


def image_labels(batch: Batch, manifest: Manifest, space: DenseSpace) -> SoftLabels:
    """Return one soft label of each whole image, [batch, classes].

    The distiller's own where it is stored (`soft_*`); else the dense label of the view that is the whole image;
    else, as a stand-in, the mean over the image's views that are there: of their probabilities, or of their
    logits where the loss takes logits.

    Raises:
        UsageError: there is no soft label, or it cannot be had in the space.
    """
    if batch.soft is not None:
        return _own_labels(batch.soft, batch, manifest, space)
    if batch.dense is None or manifest.labels is None:
        raise UsageError('this loss needs soft labels and this dataset has none. Run "ladd label" first.')
    found, temperature = _dense_space(batch, space), _temperature(manifest)
    if isinstance(manifest.labels.views, Full):
        return name_dense(batch.dense[:, 0], found, temperature)
    if found == "log_probabilities":
        mean = _mean(batch.dense.exp(), batch.present)
        return Probabilities(mean, temperature).to_logs()
    return name_dense(_mean(batch.dense, batch.present), found, temperature)


def _mean(dense: Tensor, present: Tensor | None) -> Tensor:
    """Return the mean over the views that are there, [batch, classes]."""
    if present is None:
        return dense.mean(1)
    return (dense * present[..., None]).sum(1) / present.sum(1, keepdim=True).clamp_min(1)


def _own_labels(soft: Tensor, batch: Batch, manifest: Manifest, space: DenseSpace) -> SoftLabels:
    temperature = manifest.soft.temperature if manifest.soft is not None else 1.0
    values = soft.float()
    match batch.soft_space, space:
        case "probs", "probabilities":
            return Probabilities(values, temperature)
        case "probs", "log_probabilities":
            return Probabilities(values, temperature).to_logs()
        case "logits", "probabilities":
            return Logits(values, temperature).to_logs().to_probabilities()
        case "logits", "log_probabilities":
            return Logits(values, temperature).to_logs()
        case "logits", "logits":
            return Logits(values, temperature)
        case "targets", "logits":
            return RegressionTargets(values)
    raise UsageError(f"this loss takes {space}, which cannot be had from soft labels that are {batch.soft_space}.")


def _dense_space(batch: Batch, space: DenseSpace) -> DenseSpace:
    if batch.space != space:
        found = "no dense labels" if batch.space is None else f"dense labels as {batch.space}"
        raise UsageError(f'the batch has {found}, this loss takes {space}: ask the loader for them, space="{space}".')
    return space


def _temperature(manifest: Manifest) -> float:
    return manifest.labels.temperature if manifest.labels is not None else 1.0
