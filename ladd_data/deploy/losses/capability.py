"""Which stored labels can serve which loss: what cannot is refused, with what to store instead."""

from __future__ import annotations

from ladd_data.deploy.losses.criterion import SoftLoss
from ladd_data.deploy.losses.gift import GIFT
from ladd_data.deploy.losses.regression import MSE
from ladd_data.deploy.losses.soft import KL, TemperedCE, TopKKL
from ladd_data.errors import UsageError
from ladd_data.manifest import Coding, Full, Manifest, Opaque


def check_view_labels(manifest: Manifest, loss: SoftLoss | None) -> None:
    """Refuse dense labels that a loss over views cannot be computed from; None: only the views are needed.

    Raises:
        UsageError: there are none, or they are so stored that what the loss needs is lost.
    """
    if manifest.labels is None:
        raise UsageError(
            "this loss is over views, and this dataset has no dense labels, so no views are defined. "
            'Run "ladd label" first.'
        )
    if isinstance(manifest.labels.views, Opaque):
        raise UsageError(
            "this loss is over views, and those that these labels are of cannot be cut again: "
            f"{manifest.labels.views.reason}. Train with other labels, or with --loss hard-ce."
        )
    if loss is None:
        return
    _check_k(manifest, loss)
    coding, stored = manifest.labels.coding, say_coding(manifest.labels.coding)
    match loss:
        case MSE() | GIFT():
            if coding.encoding == "topk":
                raise _refusal(loss, stored, "the logits of all classes", "--encoding q8 or --profile default")
            if coding.space != "logits" and not coding.logz:
                raise _refusal(
                    loss, stored, "logits, which a softmax has thrown away", "--profile default (it keeps logz)"
                )
        case KL() | TemperedCE() if coding.encoding == "topk" and _teacher(loss) != manifest.labels.temperature:
            raise _refusal(
                loss,
                stored,
                f"all classes at temperature {_teacher(loss):g}, where those left out weigh most",
                "--encoding q8 or --profile default; the loss topk-kl is of the kept classes alone",
            )
        case TopKKL(k=k) if coding.encoding == "topk" and coding.k is not None and coding.k < k:
            raise _refusal(loss, stored, f"the {k} likeliest classes", f"--encoding topk --top-k {k}")


def check_image_labels(manifest: Manifest, loss: SoftLoss) -> None:
    """Refuse a dataset without a soft label of whole images that the loss can be computed from.

    Raises:
        UsageError: there is none, or it is of another kind.
    """
    _check_k(manifest, loss)
    soft = manifest.soft
    if soft is None:
        if manifest.labels is None:
            raise UsageError(
                "this loss takes a soft label of each whole image, and this dataset has neither the distiller's own "
                '(soft_*) nor dense labels. Run "ladd label" first.'
            )
        check_view_labels(manifest, loss)
        return
    if soft.space == "targets" and not isinstance(loss, MSE | GIFT):
        raise UsageError(
            f"the whole-image soft labels are regression targets, of which no probabilities are made: the loss "
            f"{loss.formula} cannot take them. Train with --loss mse."
        )
    if soft.space == "probs" and isinstance(loss, MSE | GIFT):
        raise UsageError(
            f"the whole-image soft labels are probabilities: the loss {loss.formula} takes logits, which a softmax has "
            "thrown away. Train with --loss soft-ce or kl, or convert again from the distiller's logits."
        )


def has_stand_in(manifest: Manifest) -> bool:
    """Tell whether whole images have no soft label of their own, so that the mean over their views stands in."""
    return manifest.soft is None and manifest.labels is not None and not isinstance(manifest.labels.views, Full)


def say_coding(coding: Coding) -> str:
    """Return how labels are stored, in words."""
    kept = f"the {coding.k} likeliest classes, " if coding.encoding == "topk" else ""
    logz = "with logz" if coding.logz else "without logz"
    kind = "" if coding.encoding == "dense" else f" as {coding.encoding}"
    return (
        f"{kept}{coding.dtype} {coding.space}{kind}, {logz}" if coding.space != "logits" else f"{coding.dtype} logits"
    )


def _check_k(manifest: Manifest, loss: SoftLoss) -> None:
    if isinstance(loss, TopKKL) and loss.k > len(manifest.classes.names):
        raise UsageError(f"topk-kl over {loss.k} classes: this dataset has {len(manifest.classes.names)}.")


def _teacher(loss: KL | TemperedCE) -> float:
    if isinstance(loss, KL) and loss.teacher_temperature is None:
        return loss.temperature
    return loss.teacher_temperature or 1.0


def _refusal(loss: SoftLoss, stored: str, needed: str, instead: str) -> UsageError:
    return UsageError(
        f"the loss {loss.formula} needs {needed}; this dataset stores {stored}. "
        f'Label again: "ladd label ... {instead}", or take --loss soft-ce.'
    )
