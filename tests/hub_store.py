"""Repositories in memory, as `hub_server.py` keeps them: files, whole trees as commits, branches and tags."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class File:
    """A stored file."""

    data: bytes
    lfs: bool

    def describe(self, path: str) -> dict[str, Any]:
        """Return what a listing says of it."""
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n"
        text = pointer % (self.sha256.encode(), len(self.data)) if self.lfs else self.data
        item = {"type": "file", "path": path, "size": len(self.data), "oid": blob_id(text)}
        lfs = {"lfs": {"oid": self.sha256, "size": len(self.data), "pointerSize": len(text)}}
        return item | lfs if self.lfs else item

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def blob_id(data: bytes) -> str:
    """Return git's name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A repository: commits are whole trees."""

    id: str
    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    history: list[tuple[str, str]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)

    def commit(self, branch: str, tree: dict[str, File], title: str) -> str:
        """Put a new tree at the head of a branch."""
        oid = hashlib.sha1(f"{self.id} {len(self.commits)} {title}".encode()).hexdigest()
        self.commits[oid] = tree
        self.history.insert(0, (oid, title))
        self.branches[branch] = oid
        return oid

    def find(self, revision: str) -> str:
        """Return the commit that a branch, a tag or a commit names."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or name
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def apply(tree: dict[str, File], blobs: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
    """Apply one line of a commit to a tree."""
    path = value["path"]
    if key == "file":
        tree[path] = File(base64.b64decode(value["content"]), False)
    elif key == "lfsFile":
        if value["oid"] not in blobs:
            raise Refusal(400, "", f"{path} was never uploaded")
        tree[path] = File(blobs[value["oid"]], True)
    elif key in ("deletedFile", "deletedFolder"):
        gone = [name for name in tree if name == path or name.startswith(path.rstrip("/") + "/")]
        if not gone:
            raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
        for name in gone:
            del tree[name]
