"""Give every view of every image a soft label: Algorithm 1 of LADD, batched over images and views.

First every shard's labels go into a part beside the target (shards.py), by any number of ranks and runs;
then the manifest and the shards are made of the parts (assemble.py). Which rank or run labelled a shard
changes none of its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ladd_data.dataset import Dataset
from ladd_data.errors import LabelError
from ladd_data.files import new_folder
from ladd_data.label_writer import copy_label_sets
from ladd_data.labeling.assemble import assemble_shards, describe_labels
from ladd_data.labeling.average import check_average
from ladd_data.labeling.drawing import BoxDraw as BoxDraw
from ladd_data.labeling.drawing import draw_views
from ladd_data.labeling.journal import Progress
from ladd_data.labeling.parts import Part, PartFormat
from ladd_data.labeling.pipeline import LabelPipeline, Member
from ladd_data.labeling.plan import LabelPlan as LabelPlan
from ladd_data.labeling.plan import labeler_input as labeler_input
from ladd_data.labeling.plan import labelled_layout, pipeline_members, state_facts
from ladd_data.labeling.runlog import Work, write_run
from ladd_data.labeling.shards import ShardLabeler
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.manifest_json import dump_manifest
from ladd_data.shards.folder import Shard
from ladd_data.shards.joined import check_label_sets
from ladd_data.shards.plan import ShardPlan
from ladd_data.team import Ranks
from ladd_data.writer import make_parts, plan_dataset, seal_folder


@dataclass(frozen=True, slots=True)
class Reports:
    """What a run tells while it runs, and afterwards.

    on_progress: told (records done, records in all), of this rank.
    on_note: told a sentence about resuming.
    run_log: whether meta/run.json says how long it took, and on what; it is in no digest.
    """

    on_progress: Callable[[int, int], None] = lambda done, total: None
    on_note: Callable[[str], None] = lambda sentence: None
    run_log: bool = False


def label_dataset(
    dataset: Dataset,
    plan: LabelPlan,
    target: Path,
    *,
    overwrite: bool = False,
    restart: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    reports: Reports = Reports(),
) -> Manifest:
    """Write a copy of a dataset with dense labels; its images are copied byte for byte, and so are its label sets.

    Memory is bounded by a batch and a row group, not by the dataset. The target is of the source's edition.
    A run of several shards that is cut short leaves its finished shards in `.NAME.progress` beside the
    target; an equal call goes on from there, and the result has the bytes of a run in one go.

    Args:
        dataset: where the images come from; earlier dense labels are replaced.
        plan: labelers (already on the device), views, coding, device.
        target: the folder to write; appears whole or not at all.
        overwrite: replace the target.
        restart: throw away what an earlier run left.
        ranks: the processes that share the work; all call this with equal arguments on one file system.
        reports: who is told what.

    Returns:
        The new dataset's manifest.

    Raises:
        LabelError: labelers and dataset do not belong together, an output is not finite, or the source's
            pixels are not those of its manifest.
        DatasetError: a label set that would come along is damaged.
        UsageError: the target exists, or a run of another kind was cut short there.

    Source: LADD, Algorithm 1 and Eq. 4.
    """
    ranks.lead(lambda: check_label_sets(dataset.folder))
    run = LabelRun(dataset, plan, target, ranks, reports)
    return run.make(partial(new_folder, target, overwrite=overwrite, after=run.progress.discard), restart=restart)


class LabelRun:
    """One rank's view of a labeling run that writes a dataset."""

    manifest_name = MANIFEST_PATH

    def __init__(self, dataset: Dataset, plan: LabelPlan, target: Path, ranks: Ranks, reports: Reports) -> None:
        """Work out the columns and the cut; nothing is read or written yet."""
        self.dataset, self.plan, self.ranks, self.reports = dataset, plan, ranks, reports
        self.target = target
        self.layout = labelled_layout(dataset, plan)
        self.form = PartFormat(self.layout)
        self.cut = self.plan_shards()
        self.progress = Progress(target, self.manifest_name)
        self.members: list[Member] = []
        self.views = draw_views(dataset, plan.views, plan.boxes)
        self.opened = False
        self.began = time.perf_counter()

    def plan_shards(self) -> ShardPlan:
        """Return the cut into shards, each of which is labelled by one rank."""
        return plan_dataset(len(self.dataset), self.layout)

    def make(self, new: Callable[[], AbstractContextManager[Path]], *, restart: bool) -> Manifest:
        """Do the run in a folder that `new` makes, and return the manifest with the labels.

        What is finished when it ends early is kept.
        """
        check_average(self.plan.coding, len(self.plan.labelers), self.plan.average)
        self.ranks.each(self.check)
        try:
            with ExitStack() as stack:
                folder = self.ranks.lead(lambda: stack.enter_context(new()))
                return self.label(folder, restart=restart)
        except BaseException:
            self.keep_or_discard()
            raise

    def check(self) -> None:
        """Refuse labelers that do not fit."""
        self.members = pipeline_members(self.dataset.manifest, self.plan.labelers)

    def label(self, folder: Path, *, restart: bool) -> Manifest:
        """Label what is not labelled yet, and fill the folder."""
        pipeline = self._open_pipeline(restart=restart)
        done = self._open_progress(pipeline.batch, restart=restart)
        self._label_shards(pipeline, done)
        seconds = time.perf_counter() - self.began
        manifest = self.write(folder, pipeline.batch)
        if self.ranks.leads and self.reports.run_log:
            resumed = sum(len(self.cut.span(number)) for number in done)
            work = Work(seconds, time.perf_counter() - self.began, len(self.dataset) - resumed, resumed)
            self.log(folder, manifest, pipeline, work)
        return manifest

    def write(self, folder: Path, batch: int) -> Manifest:
        """Fill the folder, all labels being finished; returns the manifest."""
        manifest, content, stored_bytes = self.ranks.lead(lambda: self._describe(folder, batch))
        shards = self._assemble(folder, content)
        if self.ranks.leads:
            seal_folder(folder, manifest, content, self.dataset.folder.edition, shards, stored_bytes)
            copy_label_sets(self.dataset.folder, folder)
        return manifest

    def log(self, folder: Path, manifest: Manifest, pipeline: LabelPipeline, work: Work) -> None:
        """Write down what the run took."""
        write_run(folder, manifest, self.plan.device, self.ranks.count, pipeline, work)

    def _open_pipeline(self, *, restart: bool) -> LabelPipeline:
        """Make the pipeline; the batch that rank 0, or an earlier run that is continued, found is everybody's."""
        computing, own = self.plan.computing, list[LabelPipeline]()

        def open_with(batch: int | None) -> LabelPipeline:
            return LabelPipeline(self.members, self.plan.views, replace(computing, batch=batch), self.views.table)

        def decide() -> int:
            free = computing.batch is None and computing.memory is None and not restart
            recorded = self.progress.recorded().get("batch", "") if free else ""
            own.append(open_with(int(recorded) if recorded.isdecimal() else computing.batch))
            return own[0].batch

        batch = self.ranks.lead(decide)
        return own[0] if own else open_with(batch)

    def _open_progress(self, batch: int, *, restart: bool) -> dict[int, Part]:
        facts = state_facts(self.dataset, self.plan, batch, self.cut)
        for other in self.ranks.each(lambda: facts):
            names = [name for name in facts if facts[name] != other[name]]
            if names:
                raise LabelError(f"the ranks differ in {', '.join(names)}: start each with the same call and files.")
        total = self.cut.shards
        done = self.ranks.lead(lambda: self.progress.open(facts, total, restart=restart))
        self.progress.adopt(facts)
        self.opened = True
        if done and self.ranks.leads:
            self.reports.on_note(f"going on where an earlier run was cut short: {len(done)} of {total} shards are done")
        return done

    def _label_shards(self, pipeline: LabelPipeline, done: dict[int, Part]) -> None:
        """Label this rank's share of what is left."""
        left = [number for number in range(self.cut.shards) if number not in done]
        mine = left[self.ranks.rank :: self.ranks.count]
        total = sum(len(self.cut.span(number)) for number in mine)
        seen = 0

        def on_rows(count: int) -> None:
            nonlocal seen
            seen += count
            self.reports.on_progress(seen, total)

        labeler = ShardLabeler(self.dataset, self.plan, self.views, pipeline, self.form, self.progress)

        def work() -> None:
            try:
                labeler.run(mine, self.cut, on_rows)
            except BaseException:
                if self.ranks.count > 1:
                    self.progress.stop_others()
                raise

        self.ranks.each(work)

    def _parts(self) -> list[Part]:
        """Return every part, verified."""
        found = [self.progress.find(number) for number in range(self.cut.shards)]
        parts = [part for part in found if part is not None]
        if len(parts) < len(found):
            number = found.index(None)
            raise LabelError(f"{self.progress.path(number)}: changed while it was needed. Run again: it is made anew.")
        return parts

    def describe(self, batch: int) -> tuple[Manifest, list[Part]]:
        """Return the manifest with the labels, and the parts that hold them."""
        parts = self._parts()
        try:
            return describe_labels(self.dataset, self.plan, batch, parts, self.form, self.progress), parts
        except LabelError:
            self.progress.discard()
            raise

    def _describe(self, folder: Path, batch: int) -> tuple[Manifest, bytes, int]:
        """Return the manifest, its bytes, and the bytes of all records in memory; make the dataset's folders."""
        manifest, parts = self.describe(batch)
        content = dump_manifest(manifest)
        self.progress.note_result(content)
        make_parts(folder)
        return manifest, content, sum(part.stored_bytes for part in parts)

    def _assemble(self, folder: Path, content: bytes) -> list[Shard]:
        """Write all shards, each rank its share, and return their lines in order."""
        numbers = range(self.cut.shards)

        def work() -> list[Shard]:
            mine = numbers[self.ranks.rank :: self.ranks.count]
            return assemble_shards(self.dataset, folder, self.layout, self.cut, mine, self.progress, content)

        by_rank = self.ranks.each(work)
        return [by_rank[number % self.ranks.count][number // self.ranks.count] for number in numbers]

    def keep_or_discard(self) -> None:
        """Keep finished shards for the next call; a run of a single shard leaves nothing behind."""
        if not self.ranks.leads or not self.opened or not self.progress.folder.exists():
            return
        done = self.progress.count()
        if self.cut.shards == 1 or not done:
            self.progress.discard()
        else:
            kept = f"{done} of {self.cut.shards} shards are finished and kept in {self.progress.folder}"
            self.reports.on_note(f"{kept}: the same call goes on from there")
