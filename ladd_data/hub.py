"""Publishing and getting datasets: `push` makes one commit and one tag that never moves, `pull` gives the bytes back.

A reader of the repository sees the old version or the new one at any time: shards are uploaded first, where nobody
sees them, and one commit, which the Hub takes only if nobody else has committed since, makes them the dataset.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ladd_data.card.croissant import CROISSANT_PATH
from ladd_data.card.header import CARD_PATH
from ladd_data.card.merge import merge_cards
from ladd_data.card.sets import offer_sets
from ladd_data.card.write import name_repo, write_repo_name
from ladd_data.errors import DatasetError, LaddError, UsageError, nearest
from ladd_data.files import MAX_JSON_BYTES, new_folder, sha256_file
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.publishing import (
    KIND,
    UNCHANGED,
    Branch,
    File,
    Plan,
    Step,
    Target,
    find_tag,
    hold,
    look,
    open_api,
    publish,
)
from ladd_data.remote import check_repo, explain_stale, fetch_statements, find_repo, hub_errors, quietly
from ladd_data.shards.folder import Folder, open_folder, read_metadata
from ladd_data.shards.joined import check_label_sets
from ladd_data.shards.label_sets import LABELS_FOLDER, list_sets
from ladd_data.shards.projectors import list_projectors
from ladd_data.validation import validate

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OURS = ("data/", "meta/", "labels/", CROISSANT_PATH)


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
    the card on the Hub stays (`merge_cards`). The code in the card, and Croissant, name the repository from then on, in
    the folder, too. A push that was cut short is called again, and uploads what is missing.

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
    to = Target(check_repo(repo), revision, private)
    folder = _open_valid(path, tag)
    api = open_api(to.repo, needs_token=not dry_run)
    remote = look(api, to.repo, revision)
    if private and remote.exists and not remote.private:
        raise UsageError(f"{to.repo}: exists already and is public, against --private. Choose another name.")
    plan = _compare(_gather_files(api, folder, to.repo, remote), remote)
    if remote.head and plan.changes and not overwrite:
        _refuse_other_data(to.repo, remote)
    label = tag or _derive_tag(folder.manifest)
    find_tag(api, to.repo, label, remote)
    tagging = _choose_tag(to.repo, tag, folder.manifest, remote, changed=plan.changes)
    lines = tuple(_say(plan, remote, to, tagging))
    if dry_run or not lines:
        return Pushed(to.repo, revision, lines, None if plan.changes else remote.head, label, 0, plan.kept)
    write_repo_name(folder, to.repo)
    message = f"{folder.manifest.name}, digest {folder.manifest.digest[:12]}"
    commit = publish(api, to, remote, plan, message, on_progress)
    if tagging:
        after = (
            f'The version is there, whole, as commit {commit[:12]}; its tag is not. Run "ladd push" again to set it.'
        )
        with hub_errors(to.repo, after=after):
            api.create_tag(to.repo, tag=tagging, revision=commit, repo_type=KIND)
    return Pushed(to.repo, revision, lines, commit, label, len(plan.adds), plan.kept)


def pull(
    repo: str,
    target: str | Path,
    *,
    revision: str | None = None,
    labels: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Download a dataset into a folder of one's own: the bytes that were pushed, verified.

    Args:
        repo: "user/name".
        target: the folder; appears whole or not at all.
        revision: a tag, branch or commit; the head of "main" where left out.
        labels: names of label sets, all of them where left out. Others are not downloaded, and the card does not offer
            them; "default" names the labels in the records, which always come.
        overwrite: replace the target.

    Raises:
        DatasetError: what is on the Hub is not whole, or was rewritten with other tools; the target is unchanged.
        LaddError: it is not there or may not be read, or the connection failed; the target is unchanged.
        UsageError: the target exists, or there is no such label set.
    """
    name = check_repo(repo)
    from huggingface_hub import snapshot_download

    left = [".*", "*/.*"]
    if labels is not None:
        stated = fetch_statements(name, revision).path
        left += [
            f"{LABELS_FOLDER}/{other}/*"
            for other in _list_others(name, [*list_sets(stated), *list_projectors(stated)], labels)
        ]
        revision = stated.name  # the commit that was looked at
    with new_folder(Path(target), overwrite=overwrite) as partial:
        with hub_errors(name, revision, after=f"{target} was not changed."), quietly(unless_seen=True):
            snapshot_download(name, repo_type=KIND, revision=revision, local_dir=partial, ignore_patterns=left)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        try:
            folder = open_folder(partial)
            check_label_sets(folder, complete=True)
        except DatasetError as error:
            raise explain_stale(error, partial) from error
        except UsageError as error:
            raise LaddError(f"{name}: not a ladd dataset (no {MANIFEST_PATH}). See datasets.load_dataset.") from error
        if labels is not None:
            offer_sets(folder)
        return folder.manifest


def _list_others(repo: str, known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the label sets that are not wanted.

    Raises:
        UsageError: one that is wanted is not there; names those that are.
    """
    for name in wanted:
        if name not in (*known, "default"):
            sets = nearest(name, known) if known else "It has none."
            raise UsageError(f'{repo}: no label set "{name}". {sets}')
    return [name for name in known if name not in wanted]


def _open_valid(path: str | Path, tag: str | None) -> Folder:
    """Return the folder to push, every record of it checked.

    Raises:
        UsageError: the tag cannot be one, or there is no such folder.
        DatasetError: it is not valid.
    """
    if tag is not None and not _TAG.fullmatch(tag):
        raise UsageError(f'--tag "{tag}": expected letters, digits, ".", "_" and "-", such as v1.0.0.')
    if find_repo(path):
        raise UsageError(
            f'{path}: no such folder. What is pushed is a folder; "ladd pull" makes one of a dataset of the Hub.'
        )
    report = validate(path)
    if not report.valid:
        raise DatasetError(report.problems)
    return read_metadata(Path(path))


def _gather_files(api: HfApi, folder: Folder, repo: str, remote: Branch) -> dict[str, File]:
    """Return what is to be in the repository: the folder's files, its card merged with the one that is there."""
    files = _read_files(folder) | {name: hold(data) for name, data in name_repo(folder, repo).items()}
    return files | {CARD_PATH: _merge(api, repo, remote, files[CARD_PATH])}


def _read_files(folder: Folder) -> dict[str, File]:
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
            files[name] = File(path, size, stated[name])
        elif size <= MAX_JSON_BYTES:
            files[name] = hold(path.read_bytes())
        else:
            files[name] = File(path, size, sha256_file(path))
    return files


def _merge(api: HfApi, repo: str, remote: Branch, card: File) -> File:
    """Return the card to publish: ours, with what people wrote into the one on the Hub."""
    old = remote.files.get(CARD_PATH)
    if old is None or card.equals(old) or not isinstance(card.source, bytes) or old.size > MAX_JSON_BYTES:
        return card
    with hub_errors(repo, after=UNCHANGED):
        path = api.hf_hub_download(repo, CARD_PATH, repo_type=KIND, revision=remote.head)
    theirs = Path(path).read_bytes().decode("utf-8", errors="replace")
    return hold(merge_cards(card.source.decode("utf-8"), theirs).encode())


def _compare(files: dict[str, File], remote: Branch) -> Plan:
    same = {name for name, file in files.items() if name in remote.files and file.equals(remote.files[name])}
    gone = [name for name in sorted(remote.files) if name not in files and name.startswith(_OURS)]
    adds = {name: file for name, file in files.items() if name not in same}
    return Plan(adds, gone, len(same))


def _refuse_other_data(repo: str, remote: Branch) -> None:
    other = next((name for name in sorted(remote.files) if name.startswith(("data/", "meta/"))), None)
    if other is not None and MANIFEST_PATH not in remote.files:
        found = f"{repo}: holds {other} and no {MANIFEST_PATH}, so it is another dataset"
        raise UsageError(f"{found}. Choose another name, or add --overwrite to replace its data.")


def _derive_tag(manifest: Manifest) -> str:
    return f"data-{manifest.digest[:12]}"


def _choose_tag(repo: str, tag: str | None, manifest: Manifest, remote: Branch, *, changed: bool) -> str | None:
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


def _say(plan: Plan, remote: Branch, to: Target, tag: str | None) -> Iterator[str]:
    """Yield the operations in the order in which they happen."""
    if not remote.exists:
        yield f"create {'private' if to.private else 'public'} repository {to.repo}"
    if to.revision != "main" and remote.head is None:
        yield f"create branch {to.revision}"
    yield from (f"upload {name} ({file.size} bytes)" for name, file in plan.adds.items())
    yield from (f"delete {name}" for name in plan.deletes)
    if plan.changes:
        yield f"commit to {to.revision}" + (f" after {remote.head[:12]}" if remote.head else "")
    if tag:
        yield f"tag {tag}"
