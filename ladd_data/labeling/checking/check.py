"""Are the stored labels what the named labelers say of the views? Recompute a sample or all, and compare."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.errors import LabelError, UsageError
from ladd_data.labeling.checking.causes import Case, Cause, find_causes
from ladd_data.labeling.checking.compare import (
    TINY,
    Decoded,
    Tolerance,
    decode,
    default_tolerance,
    mean_over_views,
    near,
    read_scores,
    through_coding,
    total_variation,
)
from ladd_data.labeling.checking.picking import choose_records, pick_chunks
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.labeling.pipeline import Chunk, Computing, LabelPipeline
from ladd_data.labeling.plan import pipeline_members
from ladd_data.labeling.reading import ahead
from ladd_data.manifest import Labels
from ladd_data.types import F32, F64, I64

SAMPLE = 256
WORST = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """How far stored labels are from recomputed ones, over the views that were compared.

    tv: total variation, 0..1; kl: KL(recomputed, stored) in nats; top1_agreement: share of views with one top class.
    """

    records: int
    views: int
    mean_tv: float
    max_tv: float
    mean_kl: float
    max_kl: float
    top1_agreement: float


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """One shard: its path, the difference, how many of its records are beyond the tolerance, and the verdict."""

    path: str
    difference: Difference
    beyond: int
    agrees: bool


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """What `check_labels` found.

    difference: over all records compared; shards: those that had some, in order.
    of: records in the dataset; beyond: records beyond the tolerance; worst: id and total variation of the worst one.
    logz: largest difference of log-sum-exp as a share of it; None where no logits are stored.
    causes: why they disagree, the first one first; empty where they agree.
    """

    difference: Difference
    shards: tuple[ShardCheck, ...]
    of: int
    beyond: int
    worst: tuple[str, float]
    logz: float | None
    tolerance: Tolerance
    causes: tuple[Cause, ...]

    @property
    def agrees(self) -> bool:
        """Whether the labels are what the named labelers say, within the tolerance."""
        return not self.causes

    def as_dict(self) -> dict[str, object]:
        """Return everything, for `--json`."""
        return {"agrees": self.agrees, **asdict(self)}


def check_labels(
    dataset: Dataset,
    labelers: LoadedLabeler | Sequence[LoadedLabeler],
    *,
    sample: int | None = SAMPLE,
    seed: int = 0,
    tolerance: Tolerance | float | None = None,
    batch: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabelCheck:
    """Recompute labels from the labelers and compare them with what is stored.

    Recomputed labels go through the stored coding first, so that what storing costs does not blur the comparison.
    It computes as the manifest says (precision, memory format, batch), on the device that the labelers are on;
    memory is bounded by a batch and a row group.

    Args:
        dataset: with dense labels.
        labelers: the one that the manifest names, or all that it averages, in any order.
        sample: records to compare, spread over all shards by their size; None for all.
        seed: of the sample, which is a function of it and the shards alone.
        tolerance: None for `default_tolerance`; a number is the largest total variation, in the mean over its views,
            that any record may have, and then log-sum-exp is not judged.
        batch: views in each forward pass; None for the manifest's on its kind of device, else found.
        on_progress: told (records done, records in all).

    Raises:
        UsageError: no dense labels, another number of labelers than the manifest names, or a sample below 1.
        LabelError: labelers and dataset do not belong together, or an output is not finite.
    """
    labels = dataset.manifest.labels
    if labels is None:
        raise UsageError('this dataset has no dense labels. Run "ladd label" first.')
    if sample is not None and sample < 1:
        raise UsageError(f"a sample of {sample} records: expected at least 1.")
    given = (labelers,) if isinstance(labelers, LoadedLabeler) else tuple(labelers)
    ordered, causes = _match_weights(labels, given)
    limits = _choose_tolerance(labels, tolerance)
    members = pipeline_members(dataset.manifest, ordered)
    computing = _compute_as_stated(labels, ordered[0], batch)
    numbers = choose_records([shard.rows for shard in dataset.folder.shards], sample, seed)
    tally = _Tally(dataset, labels, limits)
    with LabelPipeline(members, labels.views, computing, dataset.mix_table) as pipeline:
        chunks = ahead(pick_chunks(dataset, numbers, pipeline.images_at_once))
        with closing(chunks), closing(pipeline.stream(chunks)) as recomputed:
            for chunk, logits in recomputed:
                tally.add(numbers[tally.records : tally.records + len(chunk.records)], chunk, logits)
                on_progress(tally.records, len(numbers))
    if causes and not tally.tv_disagrees:
        causes = (
            replace(causes[0], sentence=f"{causes[0].sentence}. The labels are what these weights say nevertheless"),
        )
    if tally.tv_disagrees:
        found = find_causes(
            Case(dataset, labels, ordered, replace(computing, batch=pipeline.batch), limits, tally.worst_numbers())
        )
        causes += tuple(cause for cause in found if cause.name != "unknown" or not causes)
    elif tally.logz_disagrees:
        causes += (_say_logz(tally.logz, limits),)
    return tally.result(causes)


class _Tally:
    """Adds up the differences, shard by shard."""

    def __init__(self, dataset: Dataset, labels: Labels, tolerance: Tolerance) -> None:
        self._dataset, self._labels, self._tolerance = dataset, labels, tolerance
        self._shards = dataset.folder.shards
        self._stops = np.cumsum([shard.rows for shard in self._shards])
        self._meters = [CertificateMeter() for _ in self._shards]
        self._records, self._beyond = np.zeros(len(self._shards), np.int64), np.zeros(len(self._shards), np.int64)
        self._worst: list[tuple[float, int, str]] = []
        self.records, self.logz = 0, 0.0

    def add(self, numbers: I64, chunk: Chunk, logits: F32) -> None:
        """Count some records, by their numbers; logits: float32 [labelers, n, views, classes]."""
        _refuse_not_finite(chunk.records.ids, logits)
        labels, classes = self._labels, logits.shape[-1]
        average = labels.ensemble.average if labels.ensemble is not None else "probs"
        recomputed = through_coding(read_scores(logits, average, labels.temperature), labels.coding)
        stored = decode(chunk.records.dense, labels.coding, classes)
        by_record = mean_over_views(total_variation(stored.probs, recomputed.probs), stored.present)
        where = np.searchsorted(self._stops, numbers, side="right")
        for shard in np.unique(where):
            rows = where == shard
            self._compare(int(shard), recomputed.probs[rows][stored.present[rows]], stored, rows)
            self._records[shard] += rows.sum()
            self._beyond[shard] += (by_record[rows] > self._tolerance.record_tv).sum()
        self._note_logz(recomputed, stored)
        found = zip(by_record.tolist(), numbers.tolist(), chunk.records.ids, strict=True)
        self._worst = heapq.nlargest(WORST, [*self._worst, *found], key=lambda item: item[0])
        self.records += len(numbers)

    def _compare(self, shard: int, recomputed: F32, stored: Decoded, rows: np.ndarray) -> None:
        log_probs: F64 = np.log(np.maximum(recomputed.astype(np.float64), TINY))
        self._meters[shard].add(log_probs, stored.probs[rows][stored.present[rows]])

    def _note_logz(self, recomputed: Decoded, stored: Decoded) -> None:
        if recomputed.logz is None or stored.logz is None:
            return
        relative = np.abs(recomputed.logz - stored.logz) / np.maximum(1, np.abs(recomputed.logz))
        self.logz = max(self.logz, float(relative[stored.present].max(initial=0)))

    @property
    def tv_disagrees(self) -> bool:
        """Whether some shard is beyond the tolerance."""
        return not all(shard.agrees for shard in self._by_shard())

    @property
    def logz_disagrees(self) -> bool:
        """Whether log-sum-exp is beyond it."""
        return self._tolerance.logz is not None and self.logz > self._tolerance.logz

    def worst_numbers(self) -> list[int]:
        """Return the numbers of the records that differ most, the worst first; none that agrees."""
        differing = [number for tv, number, _ in self._worst if tv > near(self._tolerance)]
        return differing or [self._worst[0][1]]

    def result(self, causes: tuple[Cause, ...]) -> LabelCheck:
        """Return the whole."""
        whole = CertificateMeter()
        for meter in self._meters:
            whole.merge(meter.sums())
        tv, _, name = self._worst[0]
        coding = self._labels.coding
        return LabelCheck(
            difference=_differ(whole, self.records),
            shards=tuple(self._by_shard()),
            of=len(self._dataset),
            beyond=int(self._beyond.sum()),
            worst=(name, tv),
            logz=self.logz if coding.logz or coding.space == "logits" else None,
            tolerance=self._tolerance,
            causes=causes,
        )

    def _by_shard(self) -> Iterator[ShardCheck]:
        for shard, meter, records, beyond in zip(self._shards, self._meters, self._records, self._beyond, strict=True):
            if records:
                difference = _differ(meter, int(records))
                agrees = not beyond and difference.mean_tv <= self._tolerance.mean_tv
                yield ShardCheck(shard.path, difference, int(beyond), bool(agrees))


def _differ(meter: CertificateMeter, records: int) -> Difference:
    return Difference(records=records, views=meter.sums().rows, **meter.result().model_dump())


def _choose_tolerance(labels: Labels, tolerance: Tolerance | float | None) -> Tolerance:
    if tolerance is None:
        return default_tolerance(labels)
    if isinstance(tolerance, Tolerance):
        return tolerance
    if not 0 <= tolerance <= 1:
        raise UsageError(f"tolerance {tolerance}: expected a total variation, 0 to 1.")
    return Tolerance(mean_tv=tolerance, record_tv=tolerance)


def _match_weights(
    labels: Labels, given: tuple[LoadedLabeler, ...]
) -> tuple[tuple[LoadedLabeler, ...], tuple[Cause, ...]]:
    """Return the labelers in the manifest's order, and a cause where they are not those it names."""
    stated = [labeler.weights_digest for labeler in labels.labelers]
    if not given or (stated and len(given) != len(stated)):
        named = ", ".join(digest[:12] for digest in stated) or "none"
        raise UsageError(f"found {len(given)} labelers; the manifest names {len(stated)} (weights {named}). Give each.")
    if not stated:
        return given, ()
    by_digest = {labeler.digest: labeler for labeler in given}
    if set(by_digest) == set(stated):
        return tuple(by_digest[digest] for digest in stated), ()
    strange = [digest for digest in by_digest if digest not in stated]
    missing = [digest for digest in stated if digest not in by_digest]
    sentence = (
        f"the weights given have the digest {_short(strange or by_digest)}; meta/ladd.json says that the labels were "
        f"made by {_short(missing or stated)}; give the labeler that it names"
    )
    return given, (Cause("other weights", sentence, None),)


def _short(digests: Iterable[str]) -> str:
    return ", ".join(f"{digest[:12]}..." for digest in digests)


def _compute_as_stated(labels: Labels, labeler: LoadedLabeler, batch: int | None) -> Computing:
    """Return the arithmetic that the manifest states, on the device that the labeler is on."""
    weight = next(labeler.network.parameters())
    stated = labels.labeler
    if stated is None:
        return Computing(weight.device, batch=batch)
    same = stated.device == weight.device.type
    return Computing(
        weight.device,
        precision=stated.precision,
        channels_last=stated.channels_last,
        batch=batch or (stated.batch if same else None),
    )


def _say_logz(found: float, tolerance: Tolerance) -> Cause:
    return Cause(
        "other logz",
        f"the probabilities agree, the log-sum-exp of the logits does not: it differs by up to {found:.2g} of itself, "
        f"{tolerance.logz:.2g} is allowed. Losses on logits would be wrong; label again",
        None,
    )


def _refuse_not_finite(ids: list[str], logits: F32) -> None:
    if not np.isfinite(logits).all():
        _, row, view = np.argwhere(~np.isfinite(logits))[0][:3]
        raise LabelError(
            f'record "{ids[row]}", view {view}: the labeler gives NaN or infinity; expected finite logits. '
            "Check its weights."
        )
