"""What a user of a dataset should know before relying on it, as far as the manifest says."""

from __future__ import annotations

from ladd_data.card.words import percent
from ladd_data.manifest import Labels, Manifest


def list_limits(manifest: Manifest) -> list[str]:
    """Return one sentence or two for each limit, as Markdown; there always is one."""
    images, made = manifest.images, manifest.distillation
    limits = [
        "There is one split, `train`: measure what you train on it on the test set of the dataset that was distilled.",
    ]
    if images.whitening == "zca":
        limits.append(
            "The images are ZCA-whitened: colours are not natural, and a network trained on them has to see test "
            "images whitened in the same way."
        )
    if images.encoding == "png":
        error = images.quantization.error
        if error.clipped_share > 0:
            limits.append(
                f"{percent(error.clipped_share)} of the method's pixel values lay outside what 8 bits can say here, "
                "and were cut off."
            )
        elif images.quantization.mode == "range":
            limits.append(
                "Colours are stretched so that 8 bits hold all the method's values: a picture viewer shows them paler "
                "than they are. The scale and offset above undo it."
            )
    if manifest.labels is not None:
        limits += _list_label_limits(manifest.labels, len(manifest.classes.names))
    else:
        limits.append("There are no dense labels.")
    if made.asserted:
        limits.append("Some facts were said by a person and cannot be checked against files; they are listed above.")
    if manifest.license is None:
        limits.append("No licence is stated: ask the author before you redistribute or build on it.")
    return limits


def _list_label_limits(labels: Labels, classes: int) -> list[str]:
    coding, limits = labels.coding, []
    if labels.labeler is None:
        limits.append("Which network made the dense labels is not known.")
    elif labels.labeler.accuracy is None:
        limits.append("How accurate the labeler is was not stated; labels are no better than it.")
    if labels.present:
        limits.append("Some views have no label: `view_present` says which do. Leave the others out of a loss.")
    if coding.encoding == "topk":
        limits.append(
            f"Of {classes} classes, {coding.k} are kept for each view; the others share what is left in equal parts, "
            "so their order is lost."
        )
    if coding.encoding in ("q8", "q4"):
        bits = coding.encoding[1:]
        limits.append(f"Labels are rounded to {bits} bits a class; the certificate above says what that costs.")
    if coding.space != "logits" and not coding.logz:
        limits.append("Logits cannot be had from these labels, so losses on logits (such as MSE) cannot be used.")
    return limits
