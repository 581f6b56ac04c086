"""One commit on the Hub: what a branch has, the files to add and delete, the upload, and what became of it.

Large files are uploaded first, where nobody sees them; the commit is taken only if nobody has committed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladd_data.errors import LaddError
from ladd_data.remote import hub_errors, quietly

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

KIND = "dataset"
UNCHANGED = "The repository was not changed."
Step = Callable[[int, int], None]
"""Told (bytes uploaded, bytes to upload)."""
_AT_ONCE = 5
"""Files that are uploaded at a time."""


@dataclass(frozen=True, slots=True)
class File:
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
        git = hashlib.sha1(b"blob %d\0" % self.size + data).hexdigest()
        return remote.blob_id in (git, self.sha256)  # not every server names files as git does


@dataclass(slots=True)
class Branch:
    """A branch of a repository as it is now; `head` is None where there is no such branch."""

    exists: bool = False
    private: bool = False
    head: str | None = None
    files: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What is to be done."""

    adds: dict[str, File]
    deletes: list[str]
    kept: int

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.adds or self.deletes)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a dataset goes: "user/name", a branch of it, and whether a repository that has to be made is private."""

    repo: str
    revision: str
    private: bool


def hold(data: bytes) -> File:
    """Return a file to publish that is in memory."""
    return File(data, len(data), hashlib.sha256(data).hexdigest())


def open_api(repo: str, *, needs_token: bool) -> HfApi:
    """Return the Hub's API.

    Raises:
        LaddError: there is no token, or it is known to be read-only.
    """
    from huggingface_hub import HfApi, get_token

    api = HfApi(library_name="ladd-data")
    if needs_token:
        if get_token() is None:
            raise LaddError("no token for the Hub. Log in: hf auth login, or set HF_TOKEN.")
        if _ask_role(api, repo) == "read":
            raise LaddError(f"{repo}: this token is read-only. Take one with write access: hf auth login, or HF_TOKEN.")
    return api


def _ask_role(api: HfApi, repo: str) -> str | None:
    """Return what a token may do; None where the Hub does not say: it limits how often one asks, others do not know."""
    from huggingface_hub.errors import HfHubHTTPError

    with hub_errors(repo, after=UNCHANGED):
        try:
            who = api.whoami()
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise
            return None
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    return str(role) if role else None


def look(api: HfApi, repo: str, revision: str) -> Branch:
    """Return what the repository has now."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    with hub_errors(repo, after=UNCHANGED):
        try:
            info = api.repo_info(repo, repo_type=KIND)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Branch()
        remote = Branch(True, bool(info.private), info.sha, tags=_list_tags(api, repo))
        if revision != "main":
            try:
                remote.head = api.repo_info(repo, repo_type=KIND, revision=revision).sha
            except RevisionNotFoundError:
                remote.head = None
        if info.sha is not None:  # None: a server that makes no first commit of its own
            tree = api.list_repo_tree(repo, recursive=True, revision=remote.head or info.sha, repo_type=KIND)
            remote.files = {item.path: item for item in tree if isinstance(item, RepoFile)}
    return remote


def _list_tags(api: HfApi, repo: str) -> dict[str, str]:
    """Return tags with their commits; none where a server has no such list."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return {tag.name: tag.target_commit for tag in api.list_repo_refs(repo, repo_type=KIND).tags}
    except HfHubHTTPError as error:
        if error.response.status_code not in (404, 405, 501):
            raise
        return {}


def find_tag(api: HfApi, repo: str, tag: str, remote: Branch) -> None:
    """Add the tag to those known if it is there and the server does not list tags, as some do not."""
    from huggingface_hub.errors import RevisionNotFoundError

    if remote.exists and tag not in remote.tags:
        with hub_errors(repo, after=UNCHANGED), suppress(RevisionNotFoundError):
            remote.tags[tag] = str(api.repo_info(repo, repo_type=KIND, revision=tag).sha)


def publish(api: HfApi, to: Target, remote: Branch, plan: Plan, message: str, step: Step) -> str:
    """Upload, and make the one commit; return it."""
    from huggingface_hub import CommitOperationDelete

    repo, revision, head = to.repo, to.revision, remote.head
    with hub_errors(repo, after=UNCHANGED):
        if not remote.exists:
            api.create_repo(repo, repo_type=KIND, private=to.private, exist_ok=True)
        if head is None:
            if revision != "main":
                api.create_branch(repo, branch=revision, repo_type=KIND, exist_ok=True)
            head = api.repo_info(repo, repo_type=KIND, revision=revision).sha
    if not plan.changes and head is not None:
        return head
    with hub_errors(repo, after=f"{UNCHANGED} What was uploaded need not be uploaded again."):
        adds = _upload(api, repo, revision, plan, step)
    deletes = [CommitOperationDelete(path_in_repo=name) for name in plan.deletes]
    try:
        with hub_errors(repo):
            done = api.create_commit(
                repo, [*adds, *deletes], commit_message=message, repo_type=KIND, revision=revision, parent_commit=head
            )
            return str(done.oid)
    except LaddError as error:
        return _find_out(api, repo, revision, head, plan, error)


def _upload(api: HfApi, repo: str, revision: str, plan: Plan, step: Step) -> list[CommitOperationAdd]:
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
                repo, some, repo_type=KIND, revision=revision, num_threads=_AT_ONCE, free_memory=False
            )
        for add in some:
            file = plan.adds[add.path_in_repo]
            if add._should_ignore:
                raise LaddError(
                    f"{repo}: its .gitignore leaves out {add.path_in_repo}. {UNCHANGED} Edit it on the Hub."
                )
            if add._upload_mode == "lfs" and add.upload_info.sha256.hex() != file.sha256:
                raise LaddError(f"{file.source!s}: changed while it was pushed. {UNCHANGED} Run the command again.")
            done += file.size
        step(done, total)
        adds += some
    return adds


def _find_out(api: HfApi, repo: str, revision: str, head: str | None, plan: Plan, error: LaddError) -> str:
    """Return the commit if it was made though no answer came; else say what the repository is.

    Raises:
        LaddError: the commit was not made, or that cannot be seen.
    """
    try:
        now = look(api, repo, revision)
    except LaddError:
        unknown = "Whether the commit arrived cannot be seen; the repository has the old version or the new, whole."
        raise LaddError(f"{error} {unknown} Run the command again.") from error
    if now.head == head or now.head is None:
        raise LaddError(f"{error} {UNCHANGED}") from error
    arrived = all(name in now.files and file.equals(now.files[name]) for name, file in plan.adds.items())
    if arrived and not any(name in now.files for name in plan.deletes):
        return now.head
    raise LaddError(f"{error} Nothing of this push is in the repository.") from error
