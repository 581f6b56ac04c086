"""A small Hub: what huggingface_hub and datasets ask of a server, in memory, over real HTTP, with faults on demand.

`python tests/hub_server.py` prints its address and serves until its standard input is closed. It speaks the documented
HTTP API of the Hub for datasets, by the classic (LFS) way of uploading: clients set HF_HUB_DISABLE_XET=1.
Tokens: "hf_write" may write, "hf_read" may read, others are unknown. Faults: see `Fault`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import File, Refusal, Repo, apply, blob_id

DATE = "2026-01-01T00:00:00.000Z"
LFS_SUFFIXES = (".parquet", ".tar", ".arrow", ".png", ".npz", ".safetensors")
ROLES = {"hf_write": "write", "hf_read": "read"}


@dataclass
class Fault:
    """What goes wrong, `times` times, with requests that match after the first `skip` of them.

    `kind`: a status ("500", "412", "429"); "cut": the connection closes and nothing is done; "cut-after": what was
    asked is done, and the answer never arrives; "cut-half": half of the answer arrives; "slow": a second passes first.
    """

    kind: str
    match: str = ""
    times: int = 1
    skip: int = 0

    def strikes(self, line: str) -> bool:
        """Count a request; tell whether it is to fail."""
        if not re.search(self.match, line):
            return False
        self.skip -= 1
        if self.skip >= 0 or self.times <= 0:
            return False
        self.times -= 1
        return True


@dataclass
class Answer:
    """What is sent back."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(document: Any, status: int = 200, **headers: str) -> Answer:
    """Return a JSON answer."""
    return Answer(json.dumps(document).encode(), status, {"Content-Type": "application/json", **headers})


@dataclass
class Request:
    """One request, read to its end."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    @property
    def role(self) -> str | None:
        return ROLES.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


class Hub:
    """All repositories, and the answers to all requests."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.lock = threading.RLock()
        self.address = ""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        try:
            for pattern, action in ROUTES:
                if found := re.fullmatch(pattern, f"{request.method} {request.path}"):
                    with self.lock:
                        return action(self, request, *(unquote(part or "") for part in found.groups()))
            raise Refusal(404, "NotFound", f"nothing at {request.method} {request.path}")
        except Refusal as refusal:
            message = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            return as_json({"error": refusal.message}, refusal.status, **message)

    def repo(self, request: Request, name: str, *, write: bool = False) -> Repo:
        """Return a repository that the request may see, or write."""
        repo = self.repos.get(name)
        if request.headers.get("Authorization") and request.role is None:
            raise Refusal(401, "", "Invalid username or password.")
        if repo is None or (repo.private and request.role is None):
            raise Refusal(404 if request.role else 401, "RepoNotFound", "Repository not found")
        if write and request.role != "write":
            raise Refusal(403 if request.role else 401, "", "Forbidden: the token has no write access")
        return repo

    # The account, repositories

    def whoami(self, request: Request) -> Answer:
        if request.role is None:
            raise Refusal(401, "", "Invalid username or password.")
        token = {"displayName": "test", "role": request.role, "createdAt": DATE}
        return as_json(
            {
                "type": "user",
                "id": "1",
                "name": "user",
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )

    def create(self, request: Request) -> Answer:
        if request.role != "write":
            raise Refusal(403 if request.role else 401, "", "Forbidden: the token has no write access")
        wanted = request.json()
        name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        url = f"{self.address}/datasets/{name}"
        if name in self.repos:
            return as_json({"url": url, "id": name, "error": "You already created this dataset repo"}, 409)
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.repos[name] = Repo(name, bool(private))
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        self.repos[name].commit("main", {".gitattributes": File(attributes.encode(), False)}, "initial commit")
        return as_json({"url": url, "id": name})

    def info(self, request: Request, name: str, revision: str = "") -> Answer:
        repo = self.repo(request, name)
        oid = repo.find(revision or "main")
        siblings = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        dates = {"createdAt": DATE, "lastModified": DATE, "downloads": 0, "likes": 0}
        state = {"private": repo.private, "gated": False, "disabled": False, "tags": [], "author": "user"}
        return as_json({"_id": "1", "id": name, "sha": oid, "siblings": siblings, **state, **dates})

    def refs(self, request: Request, name: str) -> Answer:
        repo = self.repo(request, name)
        kinds = (("branches", "heads", repo.branches), ("tags", "tags", repo.tags))
        return as_json(
            {"converts": []}
            | {
                kind: [{"name": key, "ref": f"refs/{place}/{key}", "targetCommit": oid} for key, oid in names.items()]
                for kind, place, names in kinds
            }
        )

    def commits(self, request: Request, name: str, revision: str) -> Answer:
        repo = self.repo(request, name)
        repo.find(revision)
        listed = [
            {"id": oid, "title": title, "message": "", "date": DATE, "authors": []} for oid, title in repo.history
        ]
        return as_json(listed)

    def tag(self, request: Request, name: str, revision: str) -> Answer:
        repo = self.repo(request, name, write=True)
        oid, tag = repo.find(revision), request.json()["tag"]
        if tag in repo.tags:
            raise Refusal(409, "", f"Tag {tag} already exists")
        repo.tags[tag] = oid
        return as_json({})

    def branch(self, request: Request, name: str, branch: str) -> Answer:
        repo = self.repo(request, name, write=True)
        if branch in repo.branches:
            raise Refusal(409, "", f"Branch {branch} already exists")
        repo.branches[branch] = repo.find(request.json().get("startingPoint") or "main")
        return as_json({})

    # Files

    def tree(self, request: Request, name: str, revision: str, folder: str) -> Answer:
        repo = self.repo(request, name)
        files, prefix = repo.commits[repo.find(revision)], f"{folder}/" if folder else ""
        inside = {path: file for path, file in files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        recursive = request.query.get("recursive", ["false"])[0].lower() == "true"
        items: dict[str, Any] = {}
        for path, file in sorted(inside.items()):
            steps = path[len(prefix) :].split("/")
            for depth in range(1, len(steps)) if recursive else range(1, min(2, len(steps))):
                parent = prefix + "/".join(steps[:depth])
                items[parent] = {"type": "directory", "path": parent, "size": 0, "oid": blob_id(parent.encode())}
            if recursive or len(steps) == 1:
                items[path] = file.describe(path)
        return as_json(list(items.values()))

    def paths_info(self, request: Request, name: str, revision: str) -> Answer:
        repo = self.repo(request, name)
        files = repo.commits[repo.find(revision)]
        is_json = "json" in request.headers.get("Content-Type", "")
        paths = request.json()["paths"] if is_json else parse_qs(request.body.decode()).get("paths", [])
        found = [files[path].describe(path) for path in paths if path in files]
        folders = [path for path in paths if any(name.startswith(f"{path}/") for name in files)]
        return as_json(found + [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders])

    def resolve(self, request: Request, name: str, revision: str, path: str) -> Answer:
        repo = self.repo(request, name)
        oid = repo.find(revision)
        if path not in repo.commits[oid]:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist")
        file, commit = repo.commits[oid][path], {"X-Repo-Commit": oid}
        if file.lfs:
            linked = {"X-Linked-Size": str(len(file.data)), "X-Linked-Etag": f'"{file.sha256}"'}
            where = {
                "Location": f"{self.address}/_files/{file.sha256}".replace("127.0.0.1", "localhost")
            }  # another host
            self.blobs[file.sha256] = file.data
            return Answer(b"", 302, commit | linked | where)
        return self.slice(request, file.data, commit | {"ETag": f'"{blob_id(file.data)}"'})

    def file(self, request: Request, sha256: str) -> Answer:
        return self.slice(request, self.blobs[sha256], {"ETag": f'"{sha256}"'})

    def slice(self, request: Request, data: bytes, headers: dict[str, str]) -> Answer:
        headers = headers | {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if wanted is None:
            return Answer(data, 200, headers)
        first = int(wanted[1]) if wanted[1] else max(0, len(data) - int(wanted[2]))
        last = min(int(wanted[2]), len(data) - 1) if wanted[1] and wanted[2] else len(data) - 1
        if first > last:
            return Answer(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
        return Answer(data[first : last + 1], 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    # Uploading

    def preupload(self, request: Request, name: str, revision: str) -> Answer:
        repo = self.repo(request, name, write=True)
        tree = repo.commits[repo.find(revision)]
        ignore = tree[".gitignore"].data.decode().split() if ".gitignore" in tree else []

        def mode(path: str, size: int) -> dict[str, Any]:
            old = tree[path].describe(path) if path in tree else {}
            lfs = path.endswith(LFS_SUFFIXES) or size > 10 * 2**20
            oid = old.get("lfs", old).get("oid") if lfs == ("lfs" in old) else None
            ignored = any(fnmatch(path, line) for line in ignore)
            return {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": ignored, "oid": oid}

        return as_json({"files": [mode(file["path"], file["size"]) for file in request.json()["files"]]})

    def batch(self, request: Request, name: str) -> Answer:
        repo = self.repo(request, name, write=True)
        objects = [{"oid": item["oid"], "size": item["size"]} for item in request.json()["objects"]]
        for item in objects:
            if item["oid"] not in repo.uploaded:
                item["actions"] = {"upload": {"href": f"{self.address}/_upload/{name}/{item['oid']}"}}
        return as_json({"transfer": "basic", "objects": objects})

    def upload(self, request: Request, name: str, sha256: str) -> Answer:
        if hashlib.sha256(request.body).hexdigest() != sha256:
            raise Refusal(400, "", "the bytes do not have this sha256")
        self.blobs[sha256] = request.body
        self.repos[name].uploaded.add(sha256)
        return Answer()

    def commit(self, request: Request, name: str, branch: str) -> Answer:
        repo = self.repo(request, name, write=True)
        lines = [json.loads(line) for line in request.body.splitlines() if line]
        head, header = repo.find(branch), lines[0]["value"]
        if branch not in repo.branches:
            raise Refusal(404, "RevisionNotFound", f"{branch} is no branch")
        if header.get("parentCommit") and not head.startswith(header["parentCommit"]):
            raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.commits[head])
        for line in lines[1:]:
            apply(tree, self.blobs, line["key"], line["value"])
        oid = repo.commit(branch, tree, header["summary"])
        return as_json({"success": True, "commitOid": oid, "commitUrl": f"{self.address}/datasets/{name}/commit/{oid}"})

    def validate_yaml(self, request: Request) -> Answer:
        return as_json({"errors": [], "warnings": []})

    # For tests

    def control(self, request: Request) -> Answer:
        """Set faults and start a new log, which answers what the old one was."""
        log, self.log = self.log, []
        self.faults = [Fault(**fault) for fault in request.json()]
        return as_json(log)


REPO = r"/api/datasets/([^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    (r"PUT /_control", Hub.control),
    (r"PUT /_upload/([^/]+/[^/]+)/([0-9a-f]{64})", Hub.upload),
    (r"(?:GET|HEAD) /_files/([0-9a-f]{64})", Hub.file),
    (r"GET /api/whoami-v2", Hub.whoami),
    (r"POST /api/repos/create", Hub.create),
    (r"POST /api/validate-yaml", Hub.validate_yaml),
    (rf"GET {REPO}", Hub.info),
    (rf"GET {REPO}/revision/([^/]+)", Hub.info),
    (rf"GET {REPO}/refs", Hub.refs),
    (rf"GET {REPO}/commits/([^/]+)", Hub.commits),
    (rf"GET {REPO}/tree/([^/]+)(?:/(.+))?", Hub.tree),
    (rf"POST {REPO}/paths-info/([^/]+)", Hub.paths_info),
    (rf"POST {REPO}/tag/([^/]+)", Hub.tag),
    (rf"POST {REPO}/branch/([^/]+)", Hub.branch),
    (rf"POST {REPO}/preupload/([^/]+)", Hub.preupload),
    (rf"POST {REPO}/commit/([^/]+)", Hub.commit),
    (r"POST /datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", Hub.batch),
    (r"(?:GET|HEAD) /datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", Hub.resolve),
]


class Handler(BaseHTTPRequestHandler):
    """The way between a socket and the Hub; faults happen here."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def handle_any(self) -> None:
        """Answer one request, or let it fail."""
        url = urlsplit(self.path)
        line = f"{self.command} {url.path}"
        is_control = url.path == "/_control"
        with self.hub.lock:
            fault = None if is_control else next((one for one in self.hub.faults if one.strikes(line)), None)
            if not is_control:
                self.hub.log.append(line)
        kind = fault.kind if fault else ""
        if kind == "cut":
            self.close_connection = True
            return
        if kind == "slow":
            time.sleep(1)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if kind.isdigit():
            again = {"Retry-After": "7"} if kind == "429" else {}
            self.send(as_json({"error": f"this is fault {kind}"}, int(kind), **again))
            return
        answer = self.hub.answer(Request(self.command, url.path, parse_qs(url.query), self.headers, body))
        if kind == "cut-after":
            self.close_connection = True
            return
        self.send(answer, half=kind == "cut-half")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def send(self, answer: Answer, *, half: bool = False) -> None:
        """Write an answer, or half of it."""
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)
        self.close_connection = self.close_connection or half

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Threads that do not outlive the process, and no words about connections that others have cut."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until standard input ends, as it does when whoever started this is gone."""
    Handler.hub = Hub()
    server = Server(("127.0.0.1", 0), Handler)
    Handler.hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(Handler.hub.address + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
