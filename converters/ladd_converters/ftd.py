"""FTD: Flat Trajectory Distillation (AngusDujw/FTD-distillation, read at commit 711532a0).

What its distill_FTD.py leaves in two trees:

    ./logged_files/<dataset>/<run>/       MTT's files: images_<it>.pt, labels_<it>.pt, _best, images_zca_<it>.pt
    ./ema_logged_files/<dataset>/<run>/   ema_images_<it>.pt, ema_labels_<it>.pt, _best: the running mean (EMA) of the
                                          pixels; its de-whitened copies are images_zca_<it>.pt, without the prefix

Labels are int64. When either tree's accuracy improves, both `_best` sets are overwritten, so neither is sure to be its
own best. Nothing says which tree a paper's number is of: the person names the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ladd_converters.mtt import DATASETS, SOFT
from ladd_converters.pairs import refuse_answers
from ladd_converters.trajectory_files import MOST_NAMES, Pair, Run, choose_pair, find_runs
from ladd_converters.trajectory_runs import NO_LR, Method, describe_runs, hard_labels, read_run
from ladd_data import RECIPES, Answers, Ask, Description, Distilled, Preset, UsageError

REPOSITORY = "https://github.com/AngusDujw/FTD-distillation"
EXAMPLE = "a run folder of FTD (logged_files/<dataset>/<run> or ema_logged_files/<dataset>/<run>)"
METHOD = Method("FTD", REPOSITORY, DATASETS, RECIPES["mtt"].model_copy(update={"source": "FTD"}))
BOTH_BEST = "FTD overwrites both best sets when either improves: this one need not be the best of its tree."


class FtdConverter:
    """Reads one tree of a run of FTD: the pixels as optimised, or their running mean."""

    name: ClassVar[str] = "ftd"
    summary: ClassVar[str] = "FTD: MTT's files in logged_files, and their running mean in ema_logged_files"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of FTD, or None; without ema_logged_files it cannot be told from MTT's."""
        runs = _runs(path)
        if not runs:
            return None
        return "ema_images_<it>.pt files" if any(run.ema for run in runs) else "ema_logged_files beside logged_files"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        reason = self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no ema_images_*.pt, nor ema_logged_files; expected {EXAMPLE}.")
        runs = _runs(path)
        found = describe_runs(path, runs, self.datasets, reason, (BOTH_BEST, NO_LR))
        if len(runs) == 2 and runs[0].ema != runs[1].ema and found.asks[0].option == "--images":
            why = f"the run {_which(runs)}; name the folder in place of {path}, or its two files"
            return replace(found, asks=(Ask("--images", why, found.asks[0].example), *found.asks[1:]))
        return found

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, ("experiment", "split"))
        runs = find_runs(path)
        named_here = path.is_file() or any(run.folder == path for run in runs) or answers.images or answers.labels
        if not named_here and len(runs) == 2 and runs[0].ema != runs[1].ema:
            raise UsageError(f"{path}: {_which(runs)}. Name one of the two folders.")
        named = choose_pair(path, answers, runs, EXAMPLE)
        distilled = read_run(METHOD, named, answers, hard_labels(SOFT), {"ema": _is_ema(named)})
        best = (BOTH_BEST,) if named.iteration == "best" else ()
        return replace(distilled, notes=(*distilled.notes, *best))


def _runs(path: Path) -> list[Run]:
    return [run for run in find_runs(path, MOST_NAMES) if run.program == "ftd"]


def _is_ema(pair: Pair) -> bool:
    """Whether files are of the tree of running means, in which de-whitened copies have no prefix."""
    return pair.images.name.startswith("ema_") or pair.labels.name.startswith("ema_")


def _which(runs: list[Run]) -> str:
    plain, ema = sorted(runs, key=lambda run: run.ema)
    return f"holds the pixels as optimised ({plain.folder}) and their running mean, EMA ({ema.folder})"
