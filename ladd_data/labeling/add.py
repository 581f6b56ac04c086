"""A further label set for a dataset: labelled as ever, written beside the images, of which nothing is changed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ladd_data.dataset import Dataset
from ladd_data.label_writer import LabelShardWriter, new_set_folder, place_of_set, plan_labels, state_set
from ladd_data.labeling.label import LabelRun, Reports
from ladd_data.labeling.pipeline import LabelPipeline
from ladd_data.labeling.plan import LabelPlan
from ladd_data.labeling.runlog import Work
from ladd_data.manifest import Manifest
from ladd_data.manifest_json import dump_label_set
from ladd_data.shards.label_sets import STATEMENT
from ladd_data.shards.plan import ShardPlan
from ladd_data.team import Ranks


def add_labels(
    dataset: Dataset,
    plan: LabelPlan,
    name: str,
    *,
    overwrite: bool = False,
    restart: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    reports: Reports = Reports(),  # noqa: B008 (frozen)
) -> Manifest:
    """Label a dataset, and put the labels into its folder as a label set; its shards and manifest stay as they are.

    A run that is cut short leaves its finished parts in `labels/.NAME.progress`; an equal call goes on from there,
    and the result has the bytes of a run in one go.

    Args:
        dataset: opened from its folder.
        plan: see `label_dataset`.
        name: of the set.
        overwrite: replace the set.
        restart: throw away what an earlier run left.
        ranks: the processes that share the work.
        reports: who is told what.

    Returns:
        The manifest that the dataset would have with these labels in its records.

    Raises:
        UsageError: the name is none, the set is there already, or a run of another kind was cut short there.
        LabelError: see `label_dataset`.
    """
    target = place_of_set(dataset.folder.path, name)
    ranks.lead(lambda: target.parent.mkdir(exist_ok=True))
    run = _SetRun(dataset, plan, target, ranks, reports)
    new = partial(new_set_folder, dataset.folder, name, overwrite=overwrite, after=run.progress.discard)
    return run.make(new, restart=restart)


class _SetRun(LabelRun):
    """A labeling run that writes a label set."""

    manifest_name = STATEMENT

    def plan_shards(self) -> ShardPlan:
        """Return the cut into shards, by the labels alone."""
        return plan_labels(len(self.dataset), self.form.columns)

    def write(self, folder: Path, batch: int) -> Manifest:
        """Write the set's shards and statement; small work, so the first rank does it alone."""
        return self.ranks.lead(lambda: self._write(folder, batch))

    def log(self, folder: Path, manifest: Manifest, pipeline: LabelPipeline, work: Work) -> None:
        """Write nothing: a set has no such file."""

    def _write(self, folder: Path, batch: int) -> Manifest:
        manifest, _ = self.describe(batch)
        statement = state_set(manifest, self.target.name)
        self.progress.note_result(dump_label_set(statement))
        writer = LabelShardWriter(folder, self.form.columns, self.cut)
        try:
            for number in range(self.cut.shards):
                for ids, columns in self.form.read_labels(self.progress.path(number)):
                    writer.add_labels(ids, columns)
            writer.seal(statement)
        except BaseException:
            writer.abort()
            raise
        return manifest
