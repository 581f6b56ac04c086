"""What a run may choose beside its recipe: which images and labels count, and how the arithmetic is done."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Choices of a run. None: as the recipe's loss has it, or as the device wants it.

    full, sub, hard, soft: train on full images, on views; against hard, against soft labels (LADD, Table 6).
    views_per_pass: views of each image in one forward pass; networks with batch statistics see other batches.
    ranks_per_student: processes of a torchrun that share the passes of one student.
    precision: bf16 is autocast; weights and losses stay float32.
    channels_last: memory format NHWC. compiled: by torch.compile; cuda_graphs: which then replays CUDA graphs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    full: bool | None = None
    sub: bool | None = None
    hard: bool | None = None
    soft: bool | None = None
    views_per_pass: Annotated[int, Field(ge=1)] | None = None
    ranks_per_student: Annotated[int, Field(ge=1)] = 1
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    compiled: bool = False
    cuda_graphs: bool = False


AS_GIVEN = Options()
"""Nothing chosen: all as the recipe's loss and the device want it."""
