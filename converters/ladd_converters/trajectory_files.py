"""The run folders of MTT and its descendants (TESLA, FTD, DATM, GLaD): which files make a set, and what they are.

All of them write images_<it>.pt beside labels_<it>.pt; what differs is told by the names around them: lr_<it>.pt
(DATM), ema_images_<it>.pt (FTD's second tree), five-digit iterations (GLaD), images_zca_<it>.pt (a ZCA run).
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ladd_converters.torch_files import read_tensor
from ladd_data import Answers, ConvertError, LaddError, UsageError

MOST_NAMES = 20_000
"""How many names a look at an unknown folder takes in: enough for many runs, few for a folder of pictures."""
LISTED = 8
PEEK = 64 * 2**20
"""A labels file up to this many bytes is opened to tell what it holds: 1000 classes of 16 images."""

_NAME = re.compile(r"(?P<ema>ema_)?images_(?P<zca>zca_)?(?P<iteration>[\w.-]+)\.pt")
_GLAD = re.compile(r"images_0[0-9]{4}\.pt")  # MTT's iteration 0 is "0"; GLaD pads to five digits

Program = Literal["mtt", "ftd", "datm", "glad"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of a set."""

    images: Path
    labels: Path

    @property
    def iteration(self) -> str | None:
        """What stands for the iteration in the images file's name; None for a name of the user's own."""
        name = _NAME.fullmatch(self.images.name)
        return name["iteration"] if name else None

    @property
    def dewhitened(self) -> bool:
        """Whether the images file is named as a de-whitened copy."""
        return self.images.name.startswith("images_zca_")


@dataclass(frozen=True, slots=True)
class Run:
    """A folder with images_<it>.pt files, and the names of all its .pt files."""

    folder: Path
    names: frozenset[str]

    @property
    def ema(self) -> bool:
        """Whether it is of the tree in which FTD keeps the running mean of its pixels."""
        return any(name.startswith("ema_images_") for name in self.names)

    @property
    def iterations(self) -> tuple[str, ...]:
        """The saved steps as their names say them: best first, then by number."""
        found = (_NAME.fullmatch(name) for name in self.names)
        its = {name["iteration"] for name in found if name and not name["zca"] and bool(name["ema"]) == self.ema}
        return tuple(sorted(its, key=lambda it: (it != "best", int(it) if it.isdecimal() else -1, it)))

    @property
    def zca_files(self) -> tuple[str, ...]:
        """Names of its de-whitened copies, in order."""
        return tuple(sorted(name for name in self.names if name.startswith("images_zca_")))

    @property
    def program(self) -> Program:
        """Whose names these are; TESLA's and, without its second tree, FTD's are MTT's."""
        if any(name.startswith("lr_") for name in self.names):
            return "datm"
        if self.ema or _ema_twin(self.folder):
            return "ftd"
        return "glad" if any(_GLAD.fullmatch(name) for name in self.names) else "mtt"

    def pair(self, iteration: str) -> Pair:
        """Return the files of a saved step; `labels` may be missing."""
        images = self.folder / f"{'ema_' if self.ema else ''}images_{iteration}.pt"
        return Pair(images, labels_beside(images))


def find_runs(path: Path, most_names: int | None = None) -> list[Run]:
    """Return the runs at or below a folder, or the one a file is of; none where the path cannot be read.

    Args:
        path: a folder, or an images file.
        most_names: where to stop looking; None looks at everything.
    """
    try:
        if path.is_file():
            return _run_in(path.parent) if _NAME.fullmatch(path.name) else []
    except OSError:  # a name that is too long
        return []
    return [
        Run(folder, frozenset(name for name in names if name.endswith(".pt")))
        for folder, names in walk(path, most_names)
        if any(_NAME.fullmatch(name) for name in names)
    ]


def walk(path: Path, most_names: int | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, nearest first, each with the names of its files; what cannot be read is not.

    Args:
        path: where to start; links to folders are not followed.
        most_names: where to stop looking; None looks at everything.
    """
    seen, waiting = 0, deque([path])
    while waiting and (most_names is None or seen < most_names):
        folder = waiting.popleft()
        try:
            with os.scandir(folder) as entries:
                names, below = _sort_entries(entries, None if most_names is None else most_names - seen)
        except (OSError, ValueError):  # not ours to look at
            continue
        seen += len(names) + len(below)
        waiting.extend(sorted(folder / name for name in below))
        yield folder, names


def _run_in(folder: Path) -> list[Run]:
    with os.scandir(folder) as entries:
        names, _ = _sort_entries(entries, None)
    return [Run(folder, frozenset(name for name in names if name.endswith(".pt")))]


def _sort_entries(entries: os._ScandirIterator[str], most: int | None) -> tuple[list[str], list[str]]:
    """Return the names of files and of folders; links to folders are not followed."""
    files: list[str] = []
    folders: list[str] = []
    for number, entry in enumerate(entries):
        if most is not None and number >= most:
            break
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        elif entry.is_file():
            files.append(entry.name)
    return files, folders


def _ema_twin(folder: Path) -> bool:
    """Whether FTD's second tree lies where its program puts it: ema_logged_files/ beside logged_files/."""
    parts = folder.absolute().parts
    if "logged_files" not in parts:
        return False
    at = len(parts) - 1 - parts[::-1].index("logged_files")
    return Path(*parts[:at], "ema_logged_files", *parts[at + 1 :]).is_dir()


def choose_pair(path: Path, answers: Answers, runs: Sequence[Run], example: str) -> Pair:
    """Return the files that the person means.

    Args:
        path: what was named on the command line.
        answers: --images and --labels come first, then --iteration; the best step otherwise.
        runs: those of the method at `path`.
        example: where the method leaves its runs, for the message where there is none.

    Raises:
        UsageError: there is no run or more than one, no such step, or half a pair.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such folder or file.")
    if answers.images is not None or answers.labels is not None:
        if answers.images is None or answers.labels is None:
            raise UsageError("--images and --labels go together: name both files of the pair.")
        if answers.iteration is not None:
            raise UsageError("--iteration does not go with --images and --labels, which name the files themselves.")
        return Pair(answers.images, answers.labels)
    if path.is_file():
        return _pair_of_file(path, answers)
    run = choose_run(path, runs, example)
    return _pair_of_run(run, answers)


def choose_run(path: Path, runs: Sequence[Run], example: str) -> Run:
    """Return the run that is `path` itself, or the only one below.

    Raises:
        UsageError: there is none, or there are several: lists them.
    """
    here = [run for run in runs if run.folder == path]
    if here or len(runs) == 1:
        return (here or list(runs))[0]
    if runs:
        listing = ", ".join(str(run.folder) for run in runs[:LISTED])
        more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
        raise UsageError(f"{path}: found {len(runs)} runs; name one of them: {listing}{more}.")
    buffers = next(path.rglob("replay_buffer_*.pt"), None)
    if buffers is not None:
        raise UsageError(
            f"{path}: found {buffers.name}, the weights of experts over their training, not images; expected {example}."
        )
    raise UsageError(f"{path}: found no images_*.pt; expected {example}.")


def _pair_of_file(path: Path, answers: Answers) -> Pair:
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise UsageError(f"{path}: expected a run folder or an images_<it>.pt. Or name a pair: --images, --labels.")
    if answers.iteration is not None and not _same(answers.iteration, named["iteration"]):
        raise UsageError(f"{path}: is of iteration {named['iteration']}; --iteration says {answers.iteration}.")
    labels = labels_beside(path)
    if not labels.is_file():
        raise UsageError(f"{path}: found no {labels.name} beside it. Name the pair with --images and --labels.")
    return Pair(path, labels)


def _pair_of_run(run: Run, answers: Answers) -> Pair:
    wanted = answers.iteration or "best"
    match = [it for it in run.iterations if _same(it, wanted)]
    complete = [it for it in run.iterations if run.pair(it).labels.is_file()]
    if match and match[0] in complete:
        return run.pair(match[0])
    if match:
        pair = run.pair(match[0])
        raise UsageError(
            f"{run.folder}: found {pair.images.name} but no {pair.labels.name} beside it. Name --images and --labels."
        )
    if complete:
        shown = ", ".join(complete[:LISTED])
        what = f"iteration {wanted}" if answers.iteration else "images_best.pt with labels_best.pt"
        raise UsageError(f"{run.folder}: found no {what}. Choose one: --iteration {complete[-1]} (found: {shown}).")
    images = sorted(name for name in run.names if _NAME.fullmatch(name))[0]
    wanted = labels_beside(run.folder / images).name
    raise UsageError(f"{run.folder}: found {images} but no {wanted} beside it. Name --images and --labels.")


def labels_beside(images: Path) -> Path:
    """Return where the labels of an images file should be; FTD's EMA tree has one name without its prefix."""
    named = _NAME.fullmatch(images.name)
    iteration, ema = (named["iteration"], named["ema"] or "") if named else ("best", "")
    in_ema_tree = images.with_name(f"ema_labels_{iteration}.pt")
    if named and named["zca"] and in_ema_tree.is_file():
        return in_ema_tree
    return images.with_name(f"{ema}labels_{iteration}.pt")


def _same(one: str, other: str) -> bool:
    """Whether two iterations are the same: as written, or as numbers, since GLaD pads with zeros."""
    return one == other or (one.isdecimal() and other.isdecimal() and int(one) == int(other))


def zca_files_beside(images: Path) -> tuple[Path, ...]:
    """Return the de-whitened copies in the folder of an images file."""
    return tuple(sorted(file for file in images.parent.glob("images_zca_*.pt") if file.is_file()))


def find_dewhitened(pair: Pair) -> Pair:
    """Return the pair with the de-whitened copy of its images, found by equality with the whitened ones.

    Raises:
        ConvertError: no copy is known to be of these images.
    """
    if pair.dewhitened:
        return pair
    ema = "ema_" if pair.images.name.startswith("ema_") else ""
    own = pair.images.with_name(f"images_zca_{pair.iteration}.pt")
    if own.is_file():
        return Pair(own, pair.labels)
    wanted = read_tensor(pair.images)
    for file in zca_files_beside(pair.images):
        whitened = file.with_name(ema + file.name.replace("images_zca_", "images_", 1))
        if whitened.is_file() and torch.equal(read_tensor(whitened), wanted):
            return Pair(file, pair.labels)
    raise ConvertError(
        f"{pair.images}: no images_<it>.pt with an images_zca_<it>.pt beside it equals this file, so its de-whitened "
        "copy is not known. Name the pair with --images images_zca_<it>.pt --labels labels_<it>.pt."
    )


def peek_labels(run: Run) -> Literal["classes", "probs", "logits"] | None:
    """Tell what the numbers in a run's labels are by opening two small files; None where that does not tell.

    TESLA's iteration 0 holds class numbers in every run, and may be the best one: the last step is looked at, too.
    """
    found: set[Literal["classes", "probs", "logits"]] = set()
    for iteration in {*run.iterations[:1], *run.iterations[-1:]}:
        labels = run.pair(iteration).labels
        try:
            if labels.stat().st_size > PEEK:
                return None
            tensor = read_tensor(labels)
        except (OSError, LaddError):
            continue
        if tensor.dim() == 1 or (tensor.dim() == 2 and tensor.shape[1] == 1):
            found.add("classes")
        elif tensor.dim() == 2 and tensor.is_floating_point() and tensor.numel():
            sums = tensor.double().sum(1)
            certain = bool((tensor >= 0).all() and (sums - 1).abs().max() <= 1e-3)
            found.add("probs" if certain else "logits")
    soft = found - {"classes"}
    return soft.pop() if len(soft) == 1 else "classes" if found == {"classes"} else None
