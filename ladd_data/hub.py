"""Publishing and getting datasets: `push` makes one commit and one tag that never moves, `pull` gives the bytes back.

A reader of the repository sees the old version or the new one at any time: shards are uploaded first, where nobody
sees them, and one commit, which the Hub takes only if nobody else has committed since, makes them the dataset.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladd_data.errors import DatasetError, LaddError, UsageError
from ladd_data.files import MAX_JSON_BYTES, new_folder, sha256_file
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.remote import check_repo, explain_stale, hub_errors, quietly
from ladd_data.shards.card import CARD_PATH
from ladd_data.shards.card_merge import merge_cards
from ladd_data.shards.folder import Folder, open_folder, read_metadata
from ladd_data.shards.joined import check_label_sets
from ladd_data.validation import validate

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_KIND = "dataset"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_AT_ONCE = 5
"""Files that are uploaded at a time."""
_UNCHANGED = "The repository was not changed."
Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did, or would do.

    operations: one line each, in order; empty where the Hub has it all. commit: the one that holds this version;
    None for a dry run that would make one. tag: None where the records were tagged at an earlier commit.
    """

    repo: str
    revision: str
    operations: tuple[str, ...]
    commit: str | None
    tag: str
    uploaded: int
    kept: int


@dataclass(frozen=True, slots=True)
class _File:
    """A file to publish: where it lies, or its bytes."""

    source: Path | bytes
    size: int
    sha256: str

    def equals(self, remote: Any) -> bool:
        """Compare with what a listing of the Hub says of a file."""
        if remote.size != self.size:
            return False
        if remote.lfs is not None:
            return bool(remote.lfs.sha256 == self.sha256)
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return bool(remote.blob_id == hashlib.sha1(b"blob %d\0" % self.size + data).hexdigest())


@dataclass(slots=True)
class _Remote:
    """A branch of a repository as it is now; `head` is None where there is no such branch."""

    exists: bool = False
    private: bool = False
    head: str | None = None
    files: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """What is to be done."""

    adds: dict[str, _File]
    deletes: list[str]
    kept: int


def push(
    path: str | Path,
    repo: str,
    *,
    tag: str | None = None,
    revision: str = "main",
    private: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: Step = lambda done, total: None,
) -> Pushed:
    """Publish a dataset folder as a dataset repository of the Hub, in one commit, and tag it.

    Only files that differ are uploaded; files of data/ and meta/ that are no more are removed; what people wrote into
    the card on the Hub stays (`merge_cards`). A push that was cut short is called again, and uploads what is missing.

    Args:
        path: the folder; validated first, every record.
        repo: "user/name"; created if it is not there.
        tag: name of this version, such as "v1.0.0"; "data-" and the first twelve digits of the dataset's digest
            where left out. A tag never moves.
        revision: the branch; made from "main" if it is not there.
        private: make a new repository private.
        overwrite: replace the data of a repository that holds another dataset, which is none of this format.
        dry_run: change nothing; the result says what would be done.
        on_progress: told (bytes uploaded, bytes to upload).

    Raises:
        DatasetError: the folder is not valid; nothing was sent.
        UsageError: a name is wrong, the tag stands at another version, or the repository is public or holds other data.
        LaddError: no token, no right to write, another writer was first, the Hub or the connection failed. The
            repository has the old version or the new one, whole.
    """
    path, name = Path(path), check_repo(repo)
    if tag is not None and not _TAG.fullmatch(tag):
        raise UsageError(f'--tag "{tag}": expected letters, digits, ".", "_" and "-", such as v1.0.0.')
    report = validate(path)
    if not report.valid:
        raise DatasetError(report.problems)
    folder = read_metadata(path)
    files = _read_files(folder)
    api = _open_api(name, needs_token=not dry_run)
    remote = _look(api, name, revision)
    if private and remote.exists and not remote.private:
        raise UsageError(f"{name}: exists already and is public, against --private. Choose another name.")
    files[CARD_PATH] = _merge(api, name, remote, files[CARD_PATH])
    plan = _compare(files, remote)
    if remote.head and (plan.adds or plan.deletes) and not overwrite:
        _refuse_other_data(name, remote)
    label = tag or _derive_tag(folder.manifest)
    _find_tag(api, name, label, remote)
    tagging = _choose_tag(name, tag, folder.manifest, remote, changed=bool(plan.adds or plan.deletes))
    lines = tuple(_say(plan, remote, name, revision, private, tagging))
    if dry_run or not lines:
        return Pushed(
            name, revision, lines, remote.head if not (plan.adds or plan.deletes) else None, label, 0, plan.kept
        )
    commit = _publish(api, name, revision, private, remote, plan, folder.manifest, on_progress)
    if tagging:
        after = (
            f'The version is there, whole, as commit {commit[:12]}; its tag is not. Run "ladd push" again to set it.'
        )
        with hub_errors(name, after=after):
            api.create_tag(name, tag=tagging, revision=commit, repo_type=_KIND)
    return Pushed(name, revision, lines, commit, label, len(plan.adds), plan.kept)


def pull(repo: str, target: str | Path, *, revision: str | None = None, overwrite: bool = False) -> Manifest:
    """Download a dataset into a folder of one's own: the bytes that were pushed, verified.

    Args:
        repo: "user/name".
        target: the folder; appears whole or not at all.
        revision: a tag, branch or commit; the head of "main" where left out.
        overwrite: replace the target.

    Raises:
        DatasetError: what is on the Hub is not whole, or was rewritten with other tools; the target is unchanged.
        LaddError: it is not there or may not be read, or the connection failed; the target is unchanged.
        UsageError: the target exists.
    """
    name = check_repo(repo)
    from huggingface_hub import snapshot_download

    with new_folder(Path(target), overwrite=overwrite) as partial:
        with hub_errors(name, revision, after=f"{target} was not changed."), quietly(unless_seen=True):
            snapshot_download(
                name, repo_type=_KIND, revision=revision, local_dir=partial, ignore_patterns=[".*", "*/.*"]
            )
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        try:
            folder = open_folder(partial)
            check_label_sets(folder)
            return folder.manifest
        except DatasetError as error:
            raise explain_stale(error, partial) from error
        except UsageError as error:
            raise LaddError(f"{name}: not a ladd dataset (no {MANIFEST_PATH}). See datasets.load_dataset.") from error


def _read_files(folder: Folder) -> dict[str, _File]:
    """Return every file to publish: all of the folder but hidden ones; metadata as bytes, so that it cannot change."""
    stated = {shard.path: shard.sha256 for shard in folder.shards}
    files = {}
    for path in sorted(folder.path.rglob("*")):
        name = path.relative_to(folder.path).as_posix()
        if path.is_dir() or any(part.startswith(".") for part in name.split("/")):
            continue
        if path.is_symlink():
            raise UsageError(f"{path}: a symbolic link; what is published is files. Remove it.")
        size = path.stat().st_size
        if name in stated:
            files[name] = _File(path, size, stated[name])
        elif size <= MAX_JSON_BYTES:
            data = path.read_bytes()
            files[name] = _File(data, len(data), hashlib.sha256(data).hexdigest())
        else:
            files[name] = _File(path, size, sha256_file(path))
    return files


def _open_api(repo: str, *, needs_token: bool) -> HfApi:
    """Return the Hub's API.

    Raises:
        LaddError: there is no token, or it is known to be read-only.
    """
    from huggingface_hub import HfApi, get_token

    api = HfApi(library_name="ladd-data")
    if needs_token:
        if get_token() is None:
            raise LaddError("no token for the Hub. Log in: hf auth login, or set HF_TOKEN.")
        with hub_errors(repo, after=_UNCHANGED):
            who = api.whoami()
        if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise LaddError(f"{repo}: this token is read-only. Take one with write access: hf auth login, or HF_TOKEN.")
    return api


def _look(api: HfApi, repo: str, revision: str) -> _Remote:
    """Return what the repository has now."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    with hub_errors(repo, after=_UNCHANGED):
        try:
            info = api.repo_info(repo, repo_type=_KIND)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return _Remote()
        refs = api.list_repo_refs(repo, repo_type=_KIND)
        remote = _Remote(True, bool(info.private), info.sha, tags={tag.name: tag.target_commit for tag in refs.tags})
        if revision != "main":
            try:
                remote.head = api.repo_info(repo, repo_type=_KIND, revision=revision).sha
            except RevisionNotFoundError:
                remote.head = None
        if info.sha is not None:  # None: a server that makes no first commit of its own
            tree = api.list_repo_tree(repo, recursive=True, revision=remote.head or info.sha, repo_type=_KIND)
            remote.files = {item.path: item for item in tree if isinstance(item, RepoFile)}
    return remote


def _find_tag(api: HfApi, repo: str, tag: str, remote: _Remote) -> None:
    """Add the tag to those known if it is there and the server does not list tags, as some do not."""
    from huggingface_hub.errors import RevisionNotFoundError

    if remote.exists and tag not in remote.tags:
        with hub_errors(repo, after=_UNCHANGED), suppress(RevisionNotFoundError):
            remote.tags[tag] = str(api.repo_info(repo, repo_type=_KIND, revision=tag).sha)


def _merge(api: HfApi, repo: str, remote: _Remote, card: _File) -> _File:
    """Return the card to publish: ours, with what people wrote into the one on the Hub."""
    old = remote.files.get(CARD_PATH)
    if old is None or card.equals(old) or not isinstance(card.source, bytes) or old.size > MAX_JSON_BYTES:
        return card
    with hub_errors(repo, after=_UNCHANGED):
        path = api.hf_hub_download(repo, CARD_PATH, repo_type=_KIND, revision=remote.head)
    theirs = Path(path).read_bytes().decode("utf-8", errors="replace")
    data = merge_cards(card.source.decode("utf-8"), theirs).encode()
    return _File(data, len(data), hashlib.sha256(data).hexdigest())


def _compare(files: dict[str, _File], remote: _Remote) -> _Plan:
    same = {name for name, file in files.items() if name in remote.files and file.equals(remote.files[name])}
    gone = [
        name for name in sorted(remote.files) if name not in files and name.startswith(("data/", "meta/", "labels/"))
    ]
    adds = {name: file for name, file in files.items() if name not in same}
    return _Plan(adds, gone, len(same))


def _refuse_other_data(repo: str, remote: _Remote) -> None:
    other = next((name for name in sorted(remote.files) if name.startswith(("data/", "meta/"))), None)
    if other is not None and MANIFEST_PATH not in remote.files:
        found = f"{repo}: holds {other} and no {MANIFEST_PATH}, so it is another dataset"
        raise UsageError(f"{found}. Choose another name, or add --overwrite to replace its data.")


def _derive_tag(manifest: Manifest) -> str:
    return f"data-{manifest.digest[:12]}"


def _choose_tag(repo: str, tag: str | None, manifest: Manifest, remote: _Remote, *, changed: bool) -> str | None:
    """Return the tag to set; None where it is set, or the same records have theirs at an earlier commit."""
    name = tag or _derive_tag(manifest)
    if name not in remote.tags:
        return name
    if tag is not None and (changed or remote.tags[name] != remote.head):
        at = remote.tags[name][:12]
        raise UsageError(
            f'{repo}: the tag "{name}" stands at another version (commit {at}), and never moves. Choose another.'
        )
    return None


def _say(plan: _Plan, remote: _Remote, repo: str, revision: str, private: bool, tag: str | None) -> Iterator[str]:
    """Yield the operations in the order in which they happen."""
    if not remote.exists:
        yield f"create {'private' if private else 'public'} repository {repo}"
    if revision != "main" and remote.head is None:
        yield f"create branch {revision}"
    yield from (f"upload {name} ({file.size} bytes)" for name, file in plan.adds.items())
    yield from (f"delete {name}" for name in plan.deletes)
    if plan.adds or plan.deletes:
        yield f"commit to {revision}" + (f" after {remote.head[:12]}" if remote.head else "")
    if tag:
        yield f"tag {tag}"


def _publish(
    api: HfApi, repo: str, revision: str, private: bool, remote: _Remote, plan: _Plan, manifest: Manifest, step: Step
) -> str:
    """Upload, and make the one commit; return it."""
    from huggingface_hub import CommitOperationDelete

    head = remote.head
    with hub_errors(repo, after=_UNCHANGED):
        if not remote.exists:
            api.create_repo(repo, repo_type=_KIND, private=private, exist_ok=True)
        if head is None:
            if revision != "main":
                api.create_branch(repo, branch=revision, repo_type=_KIND, exist_ok=True)
            head = api.repo_info(repo, repo_type=_KIND, revision=revision).sha
    if not plan.adds and not plan.deletes and head is not None:
        return head
    with hub_errors(repo, after=f"{_UNCHANGED} What was uploaded need not be uploaded again."):
        adds = _upload(api, repo, revision, plan, step)
    deletes = [CommitOperationDelete(path_in_repo=name) for name in plan.deletes]
    message = f"{manifest.name}, digest {manifest.digest[:12]}"
    try:
        with hub_errors(repo):
            done = api.create_commit(
                repo, [*adds, *deletes], commit_message=message, repo_type=_KIND, revision=revision, parent_commit=head
            )
            return str(done.oid)
    except LaddError as error:
        return _find_out(api, repo, revision, head, plan, error)


def _upload(api: HfApi, repo: str, revision: str, plan: _Plan, step: Step) -> list[CommitOperationAdd]:
    """Upload the large files, where no reader sees them yet; a few are open at a time, none is in memory."""
    from huggingface_hub import CommitOperationAdd

    total, done, adds = sum(file.size for file in plan.adds.values()), 0, []
    names = list(plan.adds)
    for first in range(0, len(names), _AT_ONCE):
        some = []
        for name in names[first : first + _AT_ONCE]:
            source = plan.adds[name].source
            some.append(CommitOperationAdd(name, source if isinstance(source, bytes) else str(source)))
        with quietly():
            api.preupload_lfs_files(
                repo, some, repo_type=_KIND, revision=revision, num_threads=_AT_ONCE, free_memory=False
            )
        for add in some:
            file = plan.adds[add.path_in_repo]
            if add._upload_mode == "lfs" and add.upload_info.sha256.hex() != file.sha256:
                raise LaddError(f"{file.source!s}: changed while it was pushed. {_UNCHANGED} Run the command again.")
            done += file.size
        step(done, total)
        adds += some
    return adds


def _find_out(api: HfApi, repo: str, revision: str, head: str | None, plan: _Plan, error: LaddError) -> str:
    """Return the commit if it was made though no answer came; else say what the repository is.

    Raises:
        LaddError: the commit was not made, or that cannot be seen.
    """
    try:
        now = _look(api, repo, revision)
    except LaddError:
        unknown = "Whether the commit arrived cannot be seen; the repository has the old version or the new, whole."
        raise LaddError(f"{error} {unknown} Run the command again.") from error
    if now.head == head or now.head is None:
        raise LaddError(f"{error} {_UNCHANGED}") from error
    arrived = all(name in now.files and file.equals(now.files[name]) for name, file in plan.adds.items())
    if arrived and not any(name in now.files for name in plan.deletes):
        return now.head
    raise LaddError(f"{error} Nothing of this push is in the repository.") from error
