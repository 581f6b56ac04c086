"""One rank's share of a labeling run: views through the labelers, labels into parts, shard after shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.encodings.coding import decode_probs, encode_log_probs
from ladd_data.errors import LabelError
from ladd_data.labeling.average import average_labels
from ladd_data.labeling.drawing import DrawnViews
from ladd_data.labeling.journal import Progress
from ladd_data.labeling.parts import Part, PartFormat, PartWriter
from ladd_data.labeling.pipeline import Chunk, LabelPipeline
from ladd_data.labeling.plan import LabelPlan
from ladd_data.labeling.reading import ahead, read_chunks
from ladd_data.manifest import GoldenView, count_views
from ladd_data.shards.layout import Records, pick
from ladd_data.shards.plan import ShardPlan
from ladd_data.types import F32
from ladd_data.views.golden import digest_view, top_of


class ShardLabeler:
    """Labels whole shards. Everything that adds up does so within a shard, so that any rank may label any shard."""

    def __init__(
        self,
        dataset: Dataset,
        plan: LabelPlan,
        views: DrawnViews,
        pipeline: LabelPipeline,
        form: PartFormat,
        progress: Progress,
    ) -> None:
        """Take what all shards share."""
        self._dataset, self._plan, self._drawn, self._pipeline = dataset, plan, views, pipeline
        self._form, self._progress = form, progress
        self._views = count_views(plan.views)

    def run(self, shards: list[int], cut: ShardPlan, on_rows: Callable[[int], None]) -> None:
        """Label some shards and save each as a part.

        Args:
            shards: their numbers.
            cut: of the dataset into shards.
            on_rows: told the number of records each time some are done.

        Raises:
            LabelError: an output is not finite; names the record and the view.
        """
        spans = (span for number in shards if (span := cut.span(number)) and not self._progress.stopped)
        chunks = ahead(read_chunks(self._dataset, spans, self._pipeline.images_at_once, self._drawn.columns))
        with self._pipeline, closing(chunks), closing(self._pipeline.stream(chunks)) as labelled:
            for number in shards:
                if not self._label_shard(number, cut.span(number), labelled, on_rows):
                    return

    def _label_shard(
        self, number: int, span: range, labelled: Iterator[tuple[Chunk, F32]], on_rows: Callable[[int], None]
    ) -> bool:
        """Label one shard; False where another rank's failure stopped the chunks before it."""
        meter, golden, stored_bytes, done = CertificateMeter(), list[GoldenView](), 0, 0
        writer: PartWriter | None = None
        try:
            while done < len(span):
                chunk, logits = next(labelled, (None, None))
                if chunk is None or logits is None:
                    return False
                writer = writer or PartWriter(self._progress.path(number), self._form)
                records = self._encode(chunk, logits, meter, golden)
                writer.add(records, chunk.pixels)
                stored_bytes += sum(values.nbytes for values in records.dense.values())
                stored_bytes += self._image_bytes(chunk)
                done += len(records)
                on_rows(len(records))
        finally:
            if writer is not None and done < len(span):
                writer.abort()
        if writer is not None:
            self._progress.save(_sum_up(number, writer, meter, golden, stored_bytes))
        return True

    def _image_bytes(self, chunk: Chunk) -> int:
        """Return what the shards store of a chunk's images: files, pixels, or, of JPEG files as pixels, both."""
        folder = self._dataset.folder
        holds_pixels, holds_files = folder.container.HOLDS_PIXELS, folder.layout.png is None
        files = sum(map(len, chunk.records.images)) if holds_files or not holds_pixels else 0
        return files + (chunk.pixels.nbytes if holds_pixels else 0)

    def _encode(self, chunk: Chunk, logits: F32, meter: CertificateMeter, golden: list[GoldenView]) -> Records:
        """Return the records with their label columns."""
        records = chunk.records
        _refuse_not_finite(records, logits)
        log_probs, logz = average_labels(logits, self._plan.average)
        encoded = encode_log_probs(log_probs, logz, self._plan.coding)
        probs = decode_probs(encoded, self._plan.coding, logits.shape[-1])
        meter.add(log_probs, probs)
        golden += self._golden(chunk, probs)
        columns = pick(records.dense, ("soft_",)) | chunk.boxes
        return Records(records.ids, records.labels, records.images, columns | encoded)

    def _golden(self, chunk: Chunk, probs: F32) -> Iterator[GoldenView]:
        """Write down the second view of the first record, the middle of the middle, the last of the last.

        The second, because first, middle and last stay in place when rows and columns are exchanged.
        """
        count = len(self._dataset)
        wanted = {count - 1: self._views - 1, count // 2: self._views // 2, 0: min(1, self._views - 1)}
        for number, view in sorted(wanted.items()):
            row = number - chunk.first
            if 0 <= row < len(chunk.records):
                boxes = {name: values[row : row + 1] for name, values in chunk.boxes.items()}
                views = self._pipeline.cut(chunk.pixels[row : row + 1], boxes)
                top, prob = top_of(probs[row, view])
                pixels = digest_view(views[0, view].cpu().numpy())
                yield GoldenView(id=chunk.records.ids[row], view=view, pixels=pixels, top_class=top, top_prob=prob)


def _sum_up(
    number: int, writer: PartWriter, meter: CertificateMeter, golden: list[GoldenView], stored_bytes: int
) -> Part:
    return Part(
        sha256=writer.close(),
        shard=number,
        rows=writer.rows,
        bytes=writer.bytes,
        stored_bytes=stored_bytes,
        errors=meter.sums(),
        golden=tuple(golden),
        first_id=writer.ids[0],
        last_id=writer.ids[-1],
        ascending=writer.ascending,
    )


def _refuse_not_finite(records: Records, logits: F32) -> None:
    if np.isfinite(logits).all():
        return
    labeler, row, view = np.argwhere(~np.isfinite(logits))[0][:3]
    which = f"labeler {labeler + 1} of {len(logits)}" if len(logits) > 1 else "the labeler"
    raise LabelError(
        f'record "{records.ids[row]}", view {view}: {which} gives NaN or infinity; expected finite logits. '
        "Check its weights, and --precision."
    )
