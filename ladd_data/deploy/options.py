"""What a run may choose beside its recipe: which images and labels count, and how the arithmetic is done."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from ladd_data.manifest import Manifest

PIXELS_PER_PASS = 2**23
"""On a GPU, views are cut into passes of at most so many pixels per channel: 512 pictures of 128x128."""


class Options(BaseModel):
    """Choices of a run. None: as the recipe's loss has it, or as the device wants it.

    full, sub, hard, soft: train on full images, on views; against hard, against soft labels (LADD, Table 6).
    views_per_pass: views of each image in one forward pass; networks with batch statistics see other batches.
    precision: bf16 is autocast; weights and losses stay float32.
    channels_last: memory format NHWC. compiled: by torch.compile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    full: bool | None = None
    sub: bool | None = None
    hard: bool | None = None
    soft: bool | None = None
    views_per_pass: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    compiled: bool = False


AS_GIVEN = Options()
"""Nothing chosen: all as the recipe's loss and the device want it."""


def settle(options: Options, manifest: Manifest, batch_size: int, device: torch.device) -> Options:
    """Return the options with the views per pass chosen: one on a CPU, as many as `PIXELS_PER_PASS` allows on a GPU."""
    if manifest.labels is None or options.views_per_pass is not None:
        return options
    pictures = PIXELS_PER_PASS // (manifest.images.height * manifest.images.width)
    wanted = pictures // min(batch_size, manifest.images.count)
    chosen = 1 if device.type == "cpu" else max(1, min(manifest.labels.count, wanted))
    return options.model_copy(update={"views_per_pass": chosen})
