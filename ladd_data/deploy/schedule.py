"""The learning rate over a run: each kind of schedule as a formula."""

from __future__ import annotations

import math

from ladd_data.recipe import Schedule

STEEP = 5 / 6
"""Where half-cosine-steep leaves the cosine."""


def rate(schedule: Schedule, done: int, total: int) -> float:
    """Return the learning rate as a share of the first.

    With t = done / total:

    constant: 1.
    step: factor for each entry of `at` that t has reached, multiplied.
    cosine: (1 + cos(pi t)) / 2.
    half-cosine: (1 + cos(pi t / 2)) / 2, which ends at a half.
    half-cosine-steep: that until t = 5/6, then its value there, straight down to 0 at t = 1.
    warmup-cosine: with w = warmup * total, (done + 1) / (floor(w) + 1) before w; then (1 + cos(pi u)) / 2, where u
        is the share of the rest that is done. Never 0, so that no step is lost.

    Args:
        schedule: which formula; its `every` says whether epochs or steps are counted.
        done: epochs or steps done, 0 .. total - 1.
        total: in the run.

    Source: RDED, validation/main.py (half-cosine); EDC, direct_train.py's "cos2" with st = 2; GLaD, `evaluate_synset`.
    """
    t = done / total
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "step":
        factor = 1.0 if schedule.factor is None else schedule.factor
        return math.prod(factor for share in schedule.at if done >= _milestone(share, total))
    if schedule.kind == "cosine":
        return (1 + math.cos(math.pi * t)) / 2
    if schedule.kind == "half-cosine" or (schedule.kind == "half-cosine-steep" and t <= STEEP):
        return (1 + math.cos(math.pi * t / 2)) / 2
    if schedule.kind == "half-cosine-steep":
        return (1 + math.cos(math.pi * STEEP / 2)) / 2 * (1 - t) / (1 - STEEP)
    warm = schedule.warmup * total
    if done < warm:
        return (done + 1) / (math.floor(warm) + 1)
    return (1 + math.cos(math.pi * (done - warm) / (total - warm))) / 2


def _milestone(share: float, total: int) -> int:
    """Return the epoch or step that a share of the run is: 2/3 of 1000 is 666, as in MultiStepLR([2 * 1000 // 3])."""
    return math.floor(share * total + 1e-9)
