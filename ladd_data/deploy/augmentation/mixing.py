"""CutMix and MixUp: pictures mixed with partners from the same pass.

The loss is mixed with them: share * (loss against the own label) + (1 - share) * (loss against the partner's). For
soft labels that has the gradient of labels mixed linearly. The papers with a teacher at hand ask it about the mixed
picture instead; a stored label cannot be made anew, so that is not the same training.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ladd_data.deploy.augmentation.draws import Draws

Box = tuple[int, int, int, int]
"""Top, left, bottom, right."""


def cut_box(height: int, width: int, share: float, u: tuple[float, float]) -> Box:
    """Return CutMix's box, centred at u and cut off at the edges.

    Source: `rand_bbox` of CutMix (Yun et al. 2019, Alg. A1), as in SRe2L's, RDED's and IDC's code.
    """
    ratio = np.sqrt(1.0 - share)
    bounds = []
    for side, at in zip((height, width), u, strict=True):
        half, centre = int(side * ratio) // 2, int(at * side)
        bounds.append((max(0, centre - half), min(side, centre + half)))
    (top, bottom), (left, right) = bounds
    return top, left, bottom, right


def cutmix(pictures: Tensor, partner: Tensor, box: Box) -> tuple[Tensor, float]:
    """Return (pictures with their partner's pixels in the box, the share of their own that is left)."""
    top, left, bottom, right = box
    mixed = pictures.clone()
    mixed[:, :, top:bottom, left:right] = pictures[:, :, top:bottom, left:right].index_select(0, partner)
    height, width = pictures.shape[2:]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def mixup(pictures: Tensor, partner: Tensor, share: float) -> Tensor:
    """Return share * picture + (1 - share) * partner."""
    return share * pictures + (1 - share) * pictures.index_select(0, partner)


def is_mixed(draws: Draws, share_of_batches: float) -> bool:
    """Tell whether the pictures of this step are mixed."""
    return share_of_batches >= 1 or bool(draws.per_step("mix")[0] < share_of_batches)
