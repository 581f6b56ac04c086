"""The way of a picture to its logits: uint8, exact views, affine map, labeler; the same for all who label or check.

Passes have one shape and begin and end with images, so what a view's logits are follows from its chunk
alone: not from threads, ranks or restarts. On a CPU each thread runs passes of its own, whose sums no
other thread shares, so that the number of threads changes no bit; on a GPU one thread launches while
another waits for results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ladd_data.errors import LabelError
from ladd_data.labeling.batch import (
    Footprint,
    fit_to_images,
    fit_to_memory,
    free_memory,
    measure_footprint,
    views_per_batch,
)
from ladd_data.manifest import Affine, Network, ViewSpec, count_views
from ladd_data.models.arithmetic import full_float32
from ladd_data.shards.layout import Records
from ladd_data.types import F32, U8, Columns
from ladd_data.views.device import ViewMaker
from ladd_data.views.mixing import MixTable, place_views

Precision = Literal["float32", "bf16"]

VIEW_BYTES = {"cpu": 2 * 2**20, "cuda": 64 * 2**20}
"""Views that are cut together."""
GPU_CHUNKS_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Computing:
    """Where and how labelers compute.

    precision: float32 without TF32, or bf16, which is torch's autocast.
    batch: views a forward pass, at most; None finds it.
    memory: bytes that may be used on the device; None for most of what is free.
    """

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    batch: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One labeler as the pipeline needs it: a module to logits, what it is, and the map from 0..255 to its input."""

    network: nn.Module
    spec: Network
    input: Affine


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records on their way: at most `LabelPipeline.images_at_once`.

    pixels: uint8 [n, channels, height, width]; boxes: where views differ by record, the columns that say where they
    lie and with what they are mixed, [n, views, ...].
    """

    records: Records
    pixels: U8
    boxes: Columns = field(default_factory=dict)
    first: int = 0


class LabelPipeline:
    """Turns images into the logits of all their views. Use inside a `with`, which holds threads and float32 mode."""

    def __init__(
        self, members: Sequence[Member], views: ViewSpec, computing: Computing, table: MixTable | None = None
    ) -> None:
        """Prepare the labelers, which must be on the device and in eval mode; `table`: of all records, for `Mix`.

        Raises:
            LabelError: a labeler's output is not [n, classes], or torch.compile cannot compile it.
            UsageError: not even one view fits into the memory.
        """
        self.computing, self.views, self._table = computing, count_views(views), table
        spec, kind = members[0].spec, computing.device.type
        self.maker = ViewMaker(views, spec.size, spec.size, computing.device)
        self.threads = torch.get_num_threads() if kind == "cpu" else 1
        footprints = [measure_footprint(member.network, member.spec) for member in members]
        view_bytes = spec.channels * spec.size**2 * 4
        self.batch = self._choose_batch(footprints, view_bytes)
        images = max(1, self.batch // self.views)
        at_once = VIEW_BYTES.get(kind, VIEW_BYTES["cuda"]) // (images * self.views * view_bytes)
        self.images_at_once = images * max(1, at_once)
        self._shape = (self.batch, spec.channels, spec.size, spec.size)
        self._members = [self._prepare(member) for member in members]
        self._pool: ThreadPoolExecutor | None = None
        self._held = ExitStack()

    def __enter__(self) -> LabelPipeline:
        """Start the threads; until the end of the `with`, torch computes in true float32."""
        self._held.enter_context(full_float32())
        self._held.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # here and in each of the threads, because torch keeps the number by thread
        self._pool = self._held.enter_context(ThreadPoolExecutor(self.threads, "labeler", torch.set_num_threads, (1,)))
        try:
            if self.computing.compile:
                self._pool.submit(self._compile).result()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *stop: object) -> None:
        self._held.close()

    def stream(self, chunks: Iterable[Chunk]) -> Generator[tuple[Chunk, F32]]:
        """Yield every chunk with its logits, float32 [labelers, n, views, classes], in the order given.

        Several chunks are under way at a time, so that neither the device nor its threads wait for the caller.
        """
        if self._pool is None:
            raise RuntimeError("use the pipeline inside a with block")
        ahead = GPU_CHUNKS_AHEAD if self.computing.device.type == "cuda" else 2 * self.threads + 1
        waiting: deque[tuple[Chunk, Future[_Result]]] = deque()
        try:
            for chunk in chunks:
                waiting.append((chunk, self._pool.submit(self._launch, chunk)))
                if len(waiting) > ahead:
                    done, result = waiting.popleft()
                    yield done, result.result().wait()
            while waiting:
                done, result = waiting.popleft()
                yield done, result.result().wait()
        finally:
            for _, result in waiting:
                result.cancel()

    def cut(self, pixels: U8, boxes: Columns) -> Tensor:
        """Return the views of some images as the labelers see them before normalisation.

        Returns:
            float32 [n, views, channels, height, width], 0..255 scale, on the device.
        """
        images = self._send(torch.from_numpy(pixels))
        with torch.inference_mode():
            return self.maker(images, **place_views(boxes, range(self.views), self.computing.device, self._table))

    def logits(self, views: Tensor) -> Tensor:
        """Return float32 logits [labelers, n, views, classes], on the device, for what `cut` gave."""
        every_view = views.flatten(0, 1)
        with torch.inference_mode():
            outputs = [[self._forward(member, part) for part in self._passes(every_view)] for member in self._members]
            return torch.stack([torch.cat(parts) for parts in outputs]).reshape(len(outputs), *views.shape[:2], -1)

    def _choose_batch(self, footprints: list[Footprint], view_bytes: int) -> int:
        if self.computing.batch is not None:
            return fit_to_images(self.computing.batch, self.views)
        kind = self.computing.device.type
        limit = min(views_per_batch(footprint, kind) for footprint in footprints)
        memory = self.computing.memory or free_memory(self.computing.device)
        return fit_to_images(fit_to_memory(limit, footprints, view_bytes, self.threads, memory), self.views)

    def _prepare(self, member: Member) -> _Prepared:
        network = member.network
        if self.computing.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.computing.compile:
            network = cast(nn.Module, torch.compile(network, dynamic=False))
        values = (member.input.scale, member.input.offset)
        scale, offset = (torch.tensor(row, dtype=torch.float32, device=self.computing.device) for row in values)
        return _Prepared(network, scale[:, None, None], offset[:, None, None], member.spec.name)

    def _compile(self) -> None:
        """Run one pass of zeros, so that compiling happens once, before many threads want it."""
        zeros = torch.zeros(self._shape, device=self.computing.device)
        for member in self._members:
            try:
                with torch.inference_mode():
                    self._forward(member, zeros)
            except Exception as error:  # torch.compile raises what its backends raise
                reason = f"{member.name}: torch.compile cannot compile it ({str(error).strip().splitlines()[0]})"
                raise LabelError(f"{reason}. Leave out --compile.") from error

    def _launch(self, chunk: Chunk) -> _Result:
        with torch.inference_mode():
            logits = self.logits(self.cut(chunk.pixels, chunk.boxes))
            if not logits.is_cuda:
                return _Result(logits, None)
            host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
            host.copy_(logits, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(torch.cuda.current_stream(logits.device))
            return _Result(host, done)

    def _send(self, values: Tensor) -> Tensor:
        if self.computing.device.type != "cuda":
            return values.to(self.computing.device)
        return values.pin_memory().to(self.computing.device, non_blocking=True)

    def _passes(self, views: Tensor) -> Iterator[Tensor]:
        """Yield the views of each forward pass; an image of more views than a pass gets passes of its own."""
        if self.batch >= self.views:
            yield from torch.split(views, self.batch)
            return
        for image in torch.split(views, self.views):
            yield from torch.split(image, self.batch)

    def _forward(self, member: _Prepared, views: Tensor) -> Tensor:
        """Return logits [n, classes]; every pass has the same shape, a short one is padded."""
        filled = views * member.scale  # the product is rounded before the sum, as in apply_affine
        filled = filled.add_(member.offset)
        if len(views) < self.batch:
            filled = functional.pad(filled, (0, 0, 0, 0, 0, 0, 0, self.batch - len(views)))
        if self.computing.channels_last:
            filled = filled.contiguous(memory_format=torch.channels_last)
        kind, low = self.computing.device.type, self.computing.precision == "bf16"
        with torch.autocast(kind, torch.bfloat16, enabled=low):
            logits: Tensor = member.network(filled)
        return logits[: len(views)].float()


@dataclass(frozen=True, slots=True)
class _Prepared:
    network: nn.Module
    scale: Tensor
    offset: Tensor
    name: str


@dataclass(frozen=True, slots=True)
class _Result:
    """Logits in host memory, once `done` has happened."""

    logits: Tensor
    done: torch.cuda.Event | None

    def wait(self) -> F32:
        if self.done is not None:
            self.done.synchronize()
        values: F32 = self.logits.numpy()
        return values
