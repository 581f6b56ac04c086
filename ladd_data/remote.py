"""A version of a dataset on the Hub as a plain folder, and what to say when the Hub refuses.

What is downloaded stays in huggingface_hub's own cache, made of links. A dataset has none (LADD-085), so beside the
cache's snapshots stands a folder `ladd/COMMIT` of the same files, hard-linked: no bytes twice, and gone when the
cached repository is deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock

from ladd_data.errors import DatasetError, LaddError, Problem, UsageError
from ladd_data.files import new_folder
from ladd_data.manifest import MANIFEST_PATH
from ladd_data.shards.container import FOOTER_KEY
from ladd_data.shards.editions import find_container
from ladd_data.shards.folder import SHARDS_PATH, Folder, read_metadata
from ladd_data.shards.label_sets import is_set_name
from ladd_data.shards.limits import check_footer

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_URL = re.compile(r"hf:/{1,2}datasets/([^/@]+/[^/@]+)(?:@(.+))?")
_PARTS = ["README.md", "meta/*", "data/*", "labels/*/labels.json", "labels/*/projector.json"]
_STALE = (
    "Someone has pushed these records with other tools, so meta/ is stale: its checksums, digests, counts, views and "
    "certificate are of another version. What still holds: each column's name says what its numbers are, and class "
    "names are in the file; datasets.load_dataset reads them. Versions that ladd wrote have a tag: see revision=."
)


def find_repo(path: str | Path) -> tuple[str, str | None] | None:
    """Return (repository, revision or None) where a path names a dataset on the Hub, and None where it is a folder.

    Names are "user/repo", where no such folder is here, and "hf://datasets/user/repo@revision".
    """
    if url := _URL.fullmatch(str(path)):
        return url[1], url[2]
    if _REPO.fullmatch(str(path)) and not Path(path).exists():
        return str(path), None
    return None


def find_folder(path: str | Path, revision: str | None = None, labels: str | None = None) -> tuple[Path, bool]:
    """Return the folder of a dataset, downloaded where it is on the Hub, and whether it is there.

    Raises:
        UsageError: a folder was given a revision, or two different ones were given.
        LaddError: it is not on the Hub, may not be read, or cannot be reached.
    """
    named = find_repo(path)
    if named is None:
        if revision is not None:
            raise UsageError(f"{path}: a folder has no revisions; leave revision out, or name a dataset of the Hub.")
        return Path(path), False
    repo, stated = named
    if revision is not None and stated not in (None, revision):
        raise UsageError(f"{path}: names one revision, and revision={revision!r} another. Give one.")
    return fetch(repo, revision or stated, labels), True


def fetch_metadata(repo: str, revision: str | None = None) -> Folder:
    """Download meta/ and the card alone, and read them.

    The Hub's listing of data/ is compared with the shard list, by size and checksum.

    Raises:
        DatasetError: the metadata cannot be read, or the shards on the Hub are others than it says.
        LaddError: as `fetch`; or it is no dataset of this format.
    """
    from huggingface_hub import HfApi, RepoFile, constants

    folder = _read(repo, revision, _PARTS[:2])
    if constants.HF_HUB_OFFLINE:
        return folder
    with hub_errors(repo, revision):
        listed = HfApi().list_repo_tree(repo, "data", revision=folder.path.name, repo_type="dataset")
        there = {item.path: item for item in listed if isinstance(item, RepoFile)}
    for shard in folder.shards:
        found = there.get(shard.path)
        if found is not None and found.size == shard.bytes and (not found.lfs or found.lfs.sha256 == shard.sha256):
            continue
        clause, said = ("LADD-002", "no such file") if found is None else ("LADD-003", f"{found.size} bytes")
        expected = f"{shard.bytes} bytes of sha256 {shard.sha256[:16]}..., as in {SHARDS_PATH}"
        raise DatasetError([Problem(clause, shard.path, f"{said} on the Hub", expected, _STALE)])
    return folder


def fetch_statements(repo: str, revision: str | None = None) -> Folder:
    """Download what a dataset and its label sets say of themselves, without any record.

    The folder is named as the commit.

    Raises:
        DatasetError: the metadata cannot be read.
        LaddError: as `fetch`; or it is no dataset of this format.
    """
    return _read(repo, revision, [*_PARTS[:2], "labels/*/*.json"])


def _read(repo: str, revision: str | None, parts: list[str]) -> Folder:
    try:
        return read_metadata(_fetch(repo, revision, parts))
    except UsageError as error:
        raise LaddError(f"{repo}: not a ladd dataset (no {MANIFEST_PATH}). See datasets.load_dataset.") from error


def check_repo(repo: str) -> str:
    """Return a repository's name.

    Raises:
        UsageError: it is none.
    """
    if not _REPO.fullmatch(repo):
        raise UsageError(f'"{repo}": expected the name of a dataset on the Hub, user/name.')
    return repo


def fetch(repo: str, revision: str | None = None, labels: str | None = None) -> Path:
    """Download a version of a dataset, or find it in the cache, and return it as a folder of regular files.

    Args:
        repo: "user/repo".
        revision: a tag, branch or commit; the head of "main" where left out.
        labels: the label set that is wanted as well; of the others only the statements come.

    Raises:
        LaddError: it is not there, may not be read, or the Hub cannot be reached and the cache does not have it.
    """
    wanted = [f"labels/{labels}/*"] if labels is not None and is_set_name(labels) else []
    return _fetch(repo, revision, [*_PARTS, *wanted])


def _fetch(repo: str, revision: str | None, parts: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    http_error: type[Exception] = HfHubHTTPError.__mro__[1]
    wanted = partial(snapshot_download, check_repo(repo), repo_type="dataset", revision=revision, allow_patterns=parts)
    with hub_errors(repo, revision), quietly(unless_seen=True):
        try:
            snapshot = wanted()
        except http_error as error:
            if isinstance(error, HfHubHTTPError):
                raise
            try:  # the line is down: huggingface_hub looks into its cache after some of such errors only
                snapshot = wanted(local_files_only=True)
            except OSError:
                raise error from None
    return _view(Path(snapshot).resolve())


def _view(snapshot: Path) -> Path:
    """Return the folder of regular files that equals a snapshot of the cache, which is made of links."""
    cached = snapshot.parent.parent
    view = cached / "ladd" / snapshot.name
    view.parent.mkdir(exist_ok=True)
    with FileLock(view.with_name(f"{view.name}.lock")):
        wanted = {str(path.relative_to(snapshot)): path.resolve() for path in snapshot.rglob("*") if path.is_file()}
        outside = next((name for name, file in wanted.items() if not file.is_relative_to(cached)), None)
        if outside is not None:
            raise LaddError(f"{snapshot / outside}: leads out of the cache. Delete {cached}.")
        there = {str(path.relative_to(view)): path for path in view.rglob("*") if path.is_file()}
        if there.keys() <= wanted.keys() and all(path.samefile(wanted[name]) for name, path in there.items()):
            for name in sorted(wanted.keys() - there.keys()) if there else ():  # a label set that came later
                (view / name).parent.mkdir(parents=True, exist_ok=True)
                _link(wanted[name], view / name)
            if there:
                return view
        shutil.rmtree(view, ignore_errors=True)
        with new_folder(view) as new:
            for name, file in wanted.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                _link(file, new / name)
    return view


def _link(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # no hard links on this file system
        shutil.copyfile(file, name)


def explain_stale(error: DatasetError, folder: Path) -> DatasetError:
    """Return the error that says what still holds, where other tools have rewritten a published dataset."""
    if not any(_is_rewritten(path) for path in sorted(folder.glob("data/*.parquet"))):
        return error
    return DatasetError([replace(problem, fix=_STALE) for problem in error.problems])


def _is_rewritten(path: Path) -> bool:
    with suppress(ValueError):
        check_footer(path)
        return FOOTER_KEY not in find_container("parquet").read_footer(path).keys
    return False


@contextmanager
def hub_errors(repo: str, revision: str | None = None, *, after: str = "") -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence; `after` says what that leaves.

    Raises:
        LaddError: in place of any of it. Errors of the local disk pass.
    """
    from huggingface_hub.errors import HfHubHTTPError

    http_error: type[Exception] = HfHubHTTPError.__mro__[1]  # httpx's own, by whatever name that library goes
    try:
        yield
    except LaddError:
        raise
    except (http_error, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename:
            raise
        raise LaddError(f"{repo}: {say_error(error, revision)}{after and ' '}{after}") from error


def say_error(error: BaseException, revision: str | None = None) -> str:
    """Return what an error of huggingface_hub or of the connection means, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    place = constants.ENDPOINT
    if isinstance(error, hub.LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return say_error(error.__cause__, revision)
    if isinstance(error, hub.OfflineModeIsEnabled):
        return "no such folder, not in the cache, and offline mode is on. Unset HF_HUB_OFFLINE."
    if isinstance(error, hub.GatedRepoError):
        return f"its owner gives access on request. Ask on {place}, and log in: hf auth login."
    if isinstance(error, hub.RepositoryNotFoundError):
        return f"no such dataset on {place} that you may see, and no such folder. Check the name, or: hf auth login."
    if isinstance(error, hub.RevisionNotFoundError):
        return f'no revision "{revision or "main"}". See its branches and tags on {place}.'
    response = getattr(error, "response", None)
    if response is not None:
        wait = response.headers.get("Retry-After") or ""
        return _say_status(response.status_code, getattr(error, "server_message", None) or "", wait)
    return f"the connection to {place} failed ({str(error).splitlines()[0] if str(error) else type(error).__name__})."


def _say_status(status: int, words: str, wait: str) -> str:
    long = f"{wait} seconds" if wait.isdigit() else "a while"
    meanings = {
        401: "the Hub does not know this token. Log in: hf auth login, or set HF_TOKEN.",
        403: "this token may not write here. Take one with write access: hf auth login, or set HF_TOKEN.",
        409: "the Hub says it exists already.",
        412: "someone else has pushed meanwhile. Nothing of theirs was overwritten: run the command again.",
        429: f"too many requests for the Hub. Wait {long}, and run the command again.",
    }
    if status >= 500:
        return f"the Hub has a fault of its own ({status}). Run the command again later."
    return meanings.get(status, f"the Hub refused ({status}{': ' if words else ''}{words}).")


@contextmanager
def quietly(*, unless_seen: bool = False) -> Iterator[None]:
    """Keep huggingface_hub's own bars off the screen, or out of pipes alone."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if (unless_seen and sys.stderr.isatty()) or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def use_lfs() -> None:
    """Let huggingface_hub upload in this process by Git LFS from now on, for servers that have no Xet."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_XET = True
