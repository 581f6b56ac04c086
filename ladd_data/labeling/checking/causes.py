"""Why stored labels are not what the labeler says: each known mistake, made on purpose on the worst records.

The mistake that brings the recomputed labels to the stored ones is named, with the numbers. Mistakes that only
rearrange what the labelers said come first; those that need other passes through the labelers are tried
(rerun.py) where none of the first explains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.encodings.coding import log_softmax
from ladd_data.labeling.checking.compare import (
    Decoded,
    Scores,
    Tolerance,
    decode,
    mean_over_views,
    near,
    read_scores,
    through_coding,
    total_variation,
)
from ladd_data.labeling.checking.mistakes import rerun_mistakes
from ladd_data.labeling.checking.picking import pick_chunks
from ladd_data.labeling.checking.rerun import Probe, run_probe
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.labeling.pipeline import Computing, Member
from ladd_data.labeling.plan import pipeline_members
from ladd_data.manifest import Grid, Labels, Mix
from ladd_data.types import F32, I64

PROBE_RECORDS = 4
PROBE_VIEWS = 512
"""Records that rearrangements are tried on, and about how many views of them."""
NEIGHBOURS = 512
NEIGHBOUR_VIEWS = 4
"""Records among which another owner of the labels is looked for, and views of each that are compared."""
MAX_ORDERED_VIEWS = 100
"""Up to here any order of views is found, above it those with a name."""
MAX_ORDERED_CLASSES = 4096
SAFE_SHARE = 0.5
"""An explanation must take away this share of the difference at least."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why labels disagree.

    name: of the mistake, such as "double softmax"; sentence: what happened, with the numbers.
    mean_tv: total variation that is left, on the records looked at, when the mistake is repeated; None where none was.
    """

    name: str
    sentence: str
    mean_tv: float | None


@dataclass(frozen=True, slots=True)
class Case:
    """What is known when labels disagree; worst: numbers of the records that differ most, the worst first."""

    dataset: Dataset
    labels: Labels
    labelers: tuple[LoadedLabeler, ...]
    computing: Computing
    tolerance: Tolerance
    worst: list[int]

    @property
    def members(self) -> list[Member]:
        """The labelers as the pipeline takes them."""
        return pipeline_members(self.dataset.manifest, self.labelers)

    @property
    def near(self) -> float:
        """Mean total variation over a few records that counts as none."""
        return near(self.tolerance)


@dataclass(frozen=True, slots=True)
class Found:
    """A mistake, and the total variation that is left with it."""

    name: str
    sentence: str
    mean_tv: float


def find_causes(case: Case) -> tuple[Cause, ...]:
    """Return the cause that explains the worst records, or one that says that none of the known ones does."""
    if isinstance(case.labels.views, Mix):
        sentence = "mistakes are not told apart where views are mixed: other labels, images, boxes or partners"
        return (Cause("unknown", sentence, None),)
    probe = _probe(case)
    logits = run_probe(probe, case.members, case.computing)
    recomputed = through_coding(_scores(case, logits), case.labels.coding)
    before = _distance(recomputed.probs, probe.stored)
    tried = [*_rearrangements(case, probe, logits), *_owners(case)]
    best = _best(tried)
    if not _explains(best, case, before):
        reruns = rerun_mistakes(probe, case.dataset.manifest, case.labels, case.labelers, case.computing)
        for name, sentence, mistaken in reruns:
            redone = through_coding(_scores(case, mistaken.logits), case.labels.coding)
            tried.append(Found(name, sentence, mistaken.distance(redone.probs)))
        best = _best(tried)
    if best is not None and _explains(best, case, before):
        numbers = f"total variation {best.mean_tv:.2g} with that, {before:.2g} without, on the records that differ most"
        return (Cause(best.name, f"{best.sentence} ({numbers})", best.mean_tv),)
    closest = f"; the nearest is {best.name}, which leaves a total variation of {best.mean_tv:.2g}" if best else ""
    sentence = (
        f"none of {len(tried)} known mistakes explains it{closest} of {before:.2g}: as after another labeler, other "
        "images, or labels changed afterwards"
    )
    return (Cause("unknown", sentence, best.mean_tv if best else None),)


def _best(tried: list[Found]) -> Found | None:
    return min(tried, key=lambda found: found.mean_tv, default=None)


def _explains(found: Found | None, case: Case, before: float) -> bool:
    return found is not None and found.mean_tv <= min(case.near, SAFE_SHARE * before)


def _scores(case: Case, logits: F32, temperature: float | None = None) -> Scores:
    ensemble = case.labels.ensemble
    at = case.labels.temperature if temperature is None else temperature
    return read_scores(logits, ensemble.average if ensemble is not None else "probs", at)


def _probe(case: Case) -> Probe:
    """Return the worst records with all their views."""
    count = max(1, min(PROBE_RECORDS, PROBE_VIEWS // case.labels.count))
    numbers: I64 = np.sort(np.asarray(case.worst[:count], np.int64))
    (chunk,) = pick_chunks(case.dataset, numbers, len(numbers))
    stored = decode(chunk.records.dense, case.labels.coding, len(case.dataset.classes))
    return Probe.of(chunk, case.labels.views, stored)


def _distance(probs: F32, stored: Decoded) -> float:
    return float(mean_over_views(total_variation(stored.probs, probs), stored.present).mean())


def _rearrangements(case: Case, probe: Probe, logits: F32) -> Iterator[Found]:
    """Yield the mistakes that need no other pass: what was done with the labelers' output."""
    stored, coding = probe.stored, case.labels.coding

    def judge(scores: Scores) -> float:
        return _distance(through_coding(scores, coding).probs, stored)

    right = _scores(case, logits)
    probs = np.exp(right[0])
    twice = log_softmax(np.asarray(probs, np.float32))
    yield Found("double softmax", "the softmax of probabilities is stored: softmax was taken twice", judge(twice))
    top = log_softmax(np.asarray(200.0 * (probs == probs.max(-1, keepdims=True)), np.float32))
    yield Found(
        "hard labels", "each view's top class is stored with probability 1, not what the labeler says", judge(top)
    )
    value = _fit_temperature(case, logits, stored)
    sentence = f"the labels are at temperature {value:.4g}; meta/ladd.json says {case.labels.temperature:.4g}"
    yield Found("other temperature", sentence, judge(_scores(case, logits, value)))
    if len(logits) > 1:
        for number in range(len(logits)):
            one = read_scores(logits[number : number + 1], "probs", case.labels.temperature)
            yield Found("one labeler alone", f"labeler {number + 1} of {len(logits)} alone made the labels", judge(one))
        ensemble = case.labels.ensemble
        other = "logits" if ensemble is None or ensemble.average == "probs" else "probs"
        log_probs, logz = read_scores(logits, other, case.labels.temperature)  # type: ignore[arg-type]
        averaged = (log_probs, np.zeros(log_probs.shape[:2]) if logz is None else logz)
        yield Found(
            "other average", f"the labels are the mean of the {other}, not what the manifest says", judge(averaged)
        )
    yield from _class_orders(case, probe, right)
    yield from _view_orders(case, probe, right)


def _fit_temperature(case: Case, logits: F32, stored: Decoded) -> float:
    """Return the temperature that brings the labelers nearest to the stored labels, to four digits where that fits."""

    def distance(value: float) -> float:
        return _distance(np.exp(_scores(case, logits, value)[0]).astype(np.float32), stored)

    low, high = 0.02, 50.0
    best = 1.0
    for _ in range(6):
        values = np.geomspace(low, high, 25).tolist()
        at = min(range(len(values)), key=lambda index: distance(values[index]))
        best, low, high = values[at], values[max(0, at - 1)], values[min(len(values) - 1, at + 1)]
    return min((float(f"{best:.3g}"), best), key=lambda value: round(distance(value), 5))


def _class_orders(case: Case, probe: Probe, right: Scores) -> Iterator[Found]:
    """Yield the order of classes that fits best, where it is another one."""
    log_probs, logz = right
    classes = log_probs.shape[-1]
    if not 1 < classes <= MAX_ORDERED_CLASSES:
        return
    ours = through_coding(right, case.labels.coding).probs[probe.stored.present]
    theirs = probe.stored.probs[probe.stored.present]
    order = [int(np.abs(ours - theirs[:, [number]]).mean(0).argmin()) for number in range(classes)]
    if len(set(order)) < classes or order == list(range(classes)):
        return
    names, moved = case.dataset.classes, next(number for number in range(classes) if order[number] != number)
    sentence = (
        f'the classes are in another order: what is stored for "{names[moved]}" belongs to "{names[order[moved]]}"'
    )
    redone = through_coding((log_probs[..., order], logz), case.labels.coding)
    yield Found("other class order", sentence, _distance(redone.probs, probe.stored))


def _view_orders(case: Case, probe: Probe, right: Scores) -> Iterator[Found]:
    """Yield the orders of views: those with a name and, where views are few, the one that fits best."""
    log_probs, logz = right
    views, grid, ours = case.labels.count, case.labels.views, through_coding(right, case.labels.coding)
    straight = np.arange(views)
    orders = {
        "reversed": straight[::-1],
        "moved by one": np.roll(straight, 1),
        "moved by one back": np.roll(straight, -1),
    }
    if isinstance(grid, Grid):
        square = straight.reshape(grid.n, grid.n)
        orders = {"transposed, column by column": square.T.ravel(), **orders}
        orders |= {"mirrored left to right": square[:, ::-1].ravel(), "mirrored top to bottom": square[::-1].ravel()}
    if 1 < views <= MAX_ORDERED_VIEWS:
        far = np.stack([total_variation(probe.stored.probs, ours.probs[:, [view]]) for view in range(views)], -1)
        nearest = (far * probe.stored.present[..., None]).sum(0).argmin(-1)  # [views]
        first = int(np.argmax(nearest != straight))
        orders[f"another one (what is stored as view {first} belongs to view {nearest[first]})"] = nearest
    seen = [straight]
    for name, order in orders.items():
        if any(np.array_equal(order, other) for other in seen):
            continue
        seen.append(order)
        redone = (log_probs[:, order], None if logz is None else logz[:, order])
        left = _distance(through_coding(redone, case.labels.coding).probs, probe.stored)
        yield Found(f"view order {name.split(' (')[0]}", f"the order of the views is {name}", left)


def _owners(case: Case) -> Iterator[Found]:
    """Yield the records whose labels these are, among the neighbours of the worst one."""
    count, views = len(case.dataset), case.labels.count
    first = max(0, min(case.worst[0] - NEIGHBOURS // 2, count - NEIGHBOURS))
    numbers = np.arange(first, min(count, first + NEIGHBOURS))
    chosen = np.unique(np.linspace(0, views - 1, min(views, NEIGHBOUR_VIEWS)).astype(int)).tolist()
    ids, ours, theirs = _read_neighbours(case, numbers, chosen)
    suspects = [number - first for number in case.worst if 0 <= number - first < len(numbers)]
    pairs: list[tuple[int, int, float]] = []
    for row in suspects:
        present = np.broadcast_to(theirs.present[row], (len(numbers), len(chosen)))
        far = mean_over_views(total_variation(theirs.probs[[row]], ours), present)
        owner = int(far.argmin())
        if present[0].any() and owner != row and far[row] > case.near and far[owner] <= far[row] * SAFE_SHARE:
            pairs.append((row, owner, float(far[owner])))
    fitting = [pair for pair in pairs if pair[2] <= case.near]
    wrong = sum(1 for row in suspects if theirs.present[row].any())
    if not fitting or len(fitting) < SAFE_SHARE * wrong:
        return
    (shift, times), *_ = Counter(owner - row for row, owner, _ in fitting).most_common()
    row, owner, _ = next(pair for pair in fitting if pair[1] - pair[0] == shift)
    where = {1: "the next record", -1: "the record before"}.get(shift, f"the record {shift:+d} places away")
    whose = where if times > SAFE_SHARE * len(fitting) else "another record"
    sentence = f'records hold the labels of {whose}: "{ids[row]}" those of "{ids[owner]}"'
    yield Found("labels of other records", sentence, float(np.mean([far for *_, far in fitting])))


def _read_neighbours(case: Case, numbers: I64, views: list[int]) -> tuple[list[str], F32, Decoded]:
    """Return ids, recomputed probabilities [records, views, classes] and stored labels of some views."""
    ids, ours, theirs = list[str](), list[F32](), list[Decoded]()
    for chunk in pick_chunks(case.dataset, numbers, 16):
        stored = decode(chunk.records.dense, case.labels.coding, len(case.dataset.classes))
        probe = Probe.of(chunk, case.labels.views, stored).pick(slice(None), views)
        logits = run_probe(probe, case.members, case.computing)
        ours.append(through_coding(_scores(case, logits), case.labels.coding).probs)
        theirs.append(replace(probe.stored, logz=None))
        ids += chunk.records.ids
    stored_probs = np.concatenate([part.probs for part in theirs])
    return ids, np.concatenate(ours), Decoded(stored_probs, None, np.concatenate([part.present for part in theirs]))
