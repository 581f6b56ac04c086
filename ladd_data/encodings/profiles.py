"""Codings by name: the profiles that most people want, and each encoding for those who know."""

from __future__ import annotations

from dataclasses import dataclass

from ladd_data.encodings.topk import id_type
from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Coding

PROFILES = ("default", "paper", "compact")
ENCODINGS = {
    "float32": Coding(encoding="dense", space="log_probs", dtype="float32", logz=True),
    "float16": Coding(encoding="dense", space="log_probs", dtype="float16", logz=True),
    "q8": Coding(encoding="q8", logz=True),
    "q4": Coding(encoding="q4", logz=True),
    "topk": Coding(encoding="topk", logz=True, k=10),
}

COMPACT_SHARE = 0.025
"""`compact` spends at most this share of the stored image bytes: the paper's figure."""
COMPACT_CLASSES = 64
"""Up to here q4 of all classes is smaller and better than top-k of equal size (measured at C = 10)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What `compact` decides by: classes, views per image, and mean bytes of a stored image."""

    classes: int
    views: int
    image_bytes: float


def coding_of_profile(name: str, budget: Budget) -> Coding:
    """Return the coding of a profile.

    default: float16 log-probabilities keep every class (float16 probabilities underflow), and the float32
        log-sum-exp gives back the logits that MSE losses and GIFT need.
    paper: float32 probabilities, what the paper counts: 2.03 % of raw pixels at C=10, 128 px, 25 views.
    compact: q4 up to 64 classes; above, top-k with the largest k that fits COMPACT_SHARE.

    Raises:
        UsageError: no profile has this name; lists those there are.
    """
    if name == "default":
        return ENCODINGS["float16"]
    if name == "paper":
        return Coding(encoding="dense", space="probs", dtype="float32", logz=False)
    if name != "compact":
        raise UsageError(f'profile "{name}" is not known. {nearest(name, PROFILES)}')
    if budget.classes <= COMPACT_CLASSES:
        return Coding(encoding="q4", logz=False)
    id_bytes = {"uint8": 1, "uint16": 2, "uint32": 4}[id_type(budget.classes)]
    per_view = COMPACT_SHARE * budget.image_bytes / budget.views - 2  # two bytes for the tail
    k = max(1, min(budget.classes - 1, int(per_view // (id_bytes + 2))))
    return Coding(encoding="topk", logz=False, k=k)


def coding_of_encoding(name: str, classes: int, *, k: int | None = None, logz: bool = True) -> Coding:
    """Return the coding of an encoding by name.

    Raises:
        UsageError: unknown name, or a k that does not fit.
    """
    if name not in ENCODINGS:
        raise UsageError(f'encoding "{name}" is not known. {nearest(name, tuple(ENCODINGS))}')
    coding = ENCODINGS[name].model_copy(update={"logz": logz})
    if coding.encoding != "topk":
        if k is not None:
            raise UsageError(f"--top-k goes with --encoding topk, not with {name}.")
        return coding
    kept = k if k is not None else min(10, classes - 1)
    if not 1 <= kept < classes:
        raise UsageError(f"--top-k {kept}: expected 1 .. {classes - 1}, fewer than the {classes} classes.")
    return coding.model_copy(update={"k": kept})
