"""A second Hub, for what differs between servers: written from the protocol alone, and like `hub_server.py` in nothing.

It streams over asyncio, with header names in lower case and bodies compressed where the client can; lists trees a few
entries at a time; takes large files in parts and has them verified; redirects small files by a relative location and
large ones to another host; gives weak ETags; has no first commit, no list of tags, no /api/whoami-v2 that knows roles,
and no Xet. Prints its address, and serves until standard input ends. Tokens: any that begins with "hf_".
"""

import asyncio
import gzip
import json
import sys
import urllib.parse
from base64 import b64decode
from hashlib import sha1, sha256
from typing import Any

PAGE, PART = 3, 4096
Reply = tuple[int, dict[str, str], bytes]
blobs: dict[str, bytes] = {}  # by sha256
parts: dict[tuple[str, int], bytes] = {}
trees: dict[str, dict[str, tuple[str, bool]]] = {}  # commit -> path -> (sha256, is large)
refs: dict[str, dict[str, str]] = {}  # repository -> "heads/main" or "tags/v1" -> commit
history: dict[str, set[str]] = {}  # repository -> its commits
hidden: set[str] = set()
address = ""


def say(value: Any, status: int = 200, **headers: str) -> Reply:
    return status, {"content-type": "application/json; charset=utf-8", **headers}, json.dumps(value).encode()


def refuse(status: int, code: str) -> Reply:
    return say({"error": code}, status, **{"x-error-code": code, "x-error-message": code})


def git_name(data: bytes) -> str:
    return sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def commit_of(repo: str, revision: str) -> str | None:
    """Return a commit; "" is the one before the first."""
    known = refs[repo]
    for name in (f"heads/{revision}", f"tags/{revision}", revision.removeprefix("refs/")):
        if name in known:
            return known[name]
    if revision == "main":
        return ""
    return revision if revision in history[repo] else None


def entry(path: str, commit: str) -> dict[str, Any]:
    digest, large = trees[commit][path]
    data = blobs[digest]
    said: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_name(data)}
    if large:
        said |= {"oid": sha1(digest.encode()).hexdigest()}
        said |= {"lfs": {"oid": digest, "size": len(data), "pointerSize": 130}}
    return said


def list_tree(commit: str, folder: str, query: dict[str, str], url: str) -> Reply:
    inside = [path for path in sorted(trees.get(commit, {})) if not folder or path.startswith(folder + "/")]
    if folder and not inside:
        return refuse(404, "EntryNotFound")
    deep = query.get("recursive", "").lower() == "true"
    seen: dict[str, dict[str, Any]] = {}
    for path in inside:
        steps = path.removeprefix(folder).strip("/").split("/")
        above = [path[: len(path) - len("/".join(steps[cut:])) - 1] for cut in range(1, len(steps))]
        for parent in above if deep else above[:1]:
            seen.setdefault(parent, {"type": "directory", "path": parent, "size": 0, "oid": "0" * 40})
        if deep or len(steps) == 1:
            seen[path] = entry(path, commit)
    items = list(seen.values())
    start = int(query.get("cursor") or 0)
    headers = {}
    if start + PAGE < len(items):
        following = urllib.parse.urlencode({**query, "cursor": start + PAGE})
        headers["link"] = f'<{address}{url.split("?")[0]}?{following}>; rel="next"'
    return say(items[start : start + PAGE], **headers)


def api(method: str, steps: list[str], query: dict[str, str], body: bytes, url: str, token: str) -> Reply:
    """Answer /api/datasets/USER/NAME/..."""
    repo, what = "/".join(steps[:2]), steps[2:]
    if repo not in refs or (repo in hidden and not token):
        return refuse(404 if token else 401, "RepoNotFound")
    if method == "POST" and not token:
        return refuse(401, "Unauthorized")
    if what[:1] == ["refs"]:
        return say({"branches": [], "tags": [], "converts": []})
    if what[:1] in (["tag"], ["branch"]):
        name = f"tags/{json.loads(body)['tag']}" if what[0] == "tag" else f"heads/{what[1]}"
        if name in refs[repo]:
            return refuse(409, "Conflict")
        begin = what[1] if what[0] == "tag" else json.loads(body or b"{}").get("startingPoint", "main")
        refs[repo][name] = commit_of(repo, begin) or ""
        return say({})
    commit = commit_of(repo, what[1] if len(what) > 1 else "main")
    if commit is None:
        return refuse(404, "RevisionNotFound")
    kind = what[0] if what else "revision"
    if kind == "revision":
        files = [{"rfilename": path} for path in trees.get(commit, {})]
        known = {"id": repo, "private": repo in hidden, "siblings": files, "tags": [], "gated": False}
        return say(known | ({"sha": commit} if commit else {}))
    if kind == "tree":
        return list_tree(commit, "/".join(what[2:]), query, url)
    if kind == "paths-info":
        wanted = (
            urllib.parse.parse_qs(body.decode()).get("paths", []) if body[:1] != b"{" else json.loads(body)["paths"]
        )
        return say([entry(path, commit) for path in wanted if path in trees.get(commit, {})])
    if kind == "preupload":
        asked = [(one["path"], one["size"]) for one in json.loads(body)["files"]]
        mode = {True: "lfs", False: "regular"}
        files = [{"path": p, "uploadMode": mode[size > 3000], "shouldIgnore": False} for p, size in asked]
        return say({"files": files})
    if kind == "commit":
        return make_commit(repo, what[1], commit, [json.loads(line) for line in body.splitlines()])
    return refuse(404, "NotFound")


def make_commit(repo: str, branch: str, head: str, lines: list[Any]) -> Reply:
    about = lines[0]["value"]
    if about.get("parentCommit") not in (None, "", head):
        return refuse(412, "PreconditionFailed")
    tree = dict(trees.get(head, {}))
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            data = b64decode(value["content"])
            blobs[sha256(data).hexdigest()] = data
            tree[value["path"]] = (sha256(data).hexdigest(), False)
        elif line["key"] == "lfsFile":
            if value["oid"] not in blobs:
                return refuse(422, "MissingObject")
            tree[value["path"]] = (value["oid"], True)
        else:
            folder = value["path"].rstrip("/") + "/"
            tree = {p: f for p, f in tree.items() if p != value["path"] and not p.startswith(folder)}
    commit = sha1(json.dumps([head, about["summary"], sorted(tree.items())]).encode()).hexdigest()
    trees[commit] = tree
    refs[repo][f"heads/{branch}"] = commit
    history[repo].add(commit)
    return say({"commitOid": commit, "commitUrl": f"{address}/datasets/{repo}/commit/{commit}", "success": True})


def large_files(method: str, steps: list[str], body: bytes) -> Reply:
    """Take a file in parts: PUT each, POST their ETags, POST to have it verified."""
    if steps[0] == "batch":
        objects = []
        for one in json.loads(body)["objects"]:
            oid, count = one["oid"], -(-one["size"] // PART)
            said = {"oid": oid, "size": one["size"]}
            if oid not in blobs:
                places = {f"{n + 1:05d}": f"{address}/lfs/part/{oid}/{n}" for n in range(count)}
                upload = {"href": f"{address}/lfs/join/{oid}", "header": {"chunk_size": str(PART), **places}}
                said["actions"] = {"upload": upload, "verify": {"href": f"{address}/lfs/verify/{oid}"}}
            objects.append(said)
        return say({"transfer": "multipart", "objects": objects})
    oid = steps[1]
    if steps[0] == "part":
        parts[oid, int(steps[2])] = body
        return 200, {"etag": f'"{git_name(body)}"'}, b""
    if steps[0] == "join":
        names = [one["etag"] for one in json.loads(body)["parts"]]
        data = b"".join(parts[oid, number] for number in range(len(names)))
        right = names == [f'"{git_name(parts[oid, number])}"' for number in range(len(names))]
        if not right or sha256(data).hexdigest() != oid:
            return refuse(400, "BadParts")
        blobs[oid] = data
        return say({})
    return say({}) if oid in blobs else refuse(404, "NotFound")


def resolve(repo: str, revision: str, path: str, token: str) -> Reply:
    if repo not in refs or (repo in hidden and not token):
        return refuse(404 if token else 401, "RepoNotFound")
    commit = commit_of(repo, revision)
    if commit is None:
        return refuse(404, "RevisionNotFound")
    if path not in trees.get(commit, {}):
        return refuse(404, "EntryNotFound")
    digest, large = trees[commit][path]
    data = blobs[digest]
    headers = {"x-repo-commit": commit, "x-linked-size": str(len(data))}
    if large:
        elsewhere = address.replace("127.0.0.1", "localhost")
        return 302, {**headers, "x-linked-etag": f'"{digest}"', "location": f"{elsewhere}/blob/{digest}/{commit}"}, b""
    named = f'W/"{git_name(data)}"'
    return 307, {**headers, "x-linked-etag": named, "location": f"/blob/{digest}/{commit}?small"}, b""


def answer(method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
    token = headers.get("authorization", "").removeprefix("Bearer ")
    if token and not token.startswith("hf_"):
        return refuse(401, "Unauthorized")
    path, _, query = url.partition("?")
    match [urllib.parse.unquote(step) for step in path.strip("/").split("/")]:
        case ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'user'}/{asked['name']}"
            if repo in refs:
                return say({"error": "exists", "url": f"{address}/datasets/{repo}"}, 409)
            refs[repo], history[repo] = {}, set()
            if asked.get("private") or asked.get("visibility") == "private":
                hidden.add(repo)
            return say({"url": f"{address}/datasets/{repo}"})
        case ["api", "datasets", *steps] if len(steps) > 1:
            return api(method, steps, dict(urllib.parse.parse_qsl(query)), body, url, token)
        case ["datasets", _, _, "info", "lfs", "objects", "batch"]:
            return large_files(method, ["batch"], body) if token else refuse(401, "Unauthorized")
        case ["lfs", *steps]:
            return large_files(method, steps, body)
        case ["datasets", user, name, "resolve", revision, *steps]:
            return resolve(f"{user}/{name}", revision, "/".join(steps), token)
        case ["blob", digest, commit]:
            small = query == "small"
            named = f'W/"{git_name(blobs[digest])}"' if small else f'"{digest}"'
            extra = {"x-repo-commit": commit} if small else {}
            return 200, {"etag": named, "accept-ranges": "bytes", **extra}, blobs[digest]
        case ["api", "validate-yaml"]:
            return say({"errors": [], "warnings": []})
    return refuse(404, "NotFound")


def cut_range(reply: Reply, wanted: str) -> Reply:
    status, headers, body = reply
    if status != 200 or "accept-ranges" not in headers or not wanted.startswith("bytes="):
        return reply
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    begin = int(first) if first else len(body) - int(last)
    end = min(int(last), len(body) - 1) if first and last else len(body) - 1
    if begin > end:
        return 416, {"content-range": f"bytes */{len(body)}"}, b""
    return 206, {**headers, "content-range": f"bytes {begin}-{end}/{len(body)}"}, body[begin : end + 1]


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection, one after the other."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        first, *rest = head.decode("latin-1").strip().split("\r\n")
        method, url, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        body = b""
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers.get("content-length") or 0))
        status, said, content = cut_range(answer(method, url, headers, body), headers.get("range", ""))
        if "json" in said.get("content-type", "") and "gzip" in headers.get("accept-encoding", ""):
            content, said = gzip.compress(content), {**said, "content-encoding": "gzip", "vary": "accept-encoding"}
        said = {**said, "content-length": str(len(content))}
        lines = [f"HTTP/1.1 {status} whatever", *(f"{name}: {value}" for name, value in said.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else content))
        await writer.drain()


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await serve_one(reader, writer)
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    global address
    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**20)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sys.stdout.write(address + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
