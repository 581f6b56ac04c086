"""Publishing to a Hub and getting back, against a server of our own over real HTTP, with unmodified clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import huggingface_hub
import pytest
import torch
from plainly import BLOCK

import ladd_data as ladd
from ladd_data.cli import main
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.add import add_labels
from ladd_data.labeling.label import LabelPlan
from ladd_data.labeling.labeler import load_labeler
from ladd_data.manifest import Boxes, Full
from ladd_data.remote import fetch
from ladd_data.shards.card_merge import merge_cards
from ladd_data.shards.folder import read_metadata
from ladd_data.shards.label_writer import remove_set

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
SERVER = Path(__file__).with_name("hub_server.py")


@dataclass
class Hub:
    """The server, as a test sees it."""

    address: str
    cache: Path

    def fail(self, kind: str, match: str = "", times: int = 1, skip: int = 0) -> None:
        """Let requests to come fail."""
        self._control([{"kind": kind, "match": match, "times": times, "skip": skip}])

    def log(self) -> list[str]:
        """Return the requests since the last call, and end all faults."""
        return list(self._control([]))

    def _control(self, faults: list[dict[str, Any]]) -> Any:
        request = Request(f"{self.address}/_control", json.dumps(faults).encode(), method="PUT")
        with urlopen(request) as answer:
            return json.load(answer)

    def api(self) -> huggingface_hub.HfApi:
        return huggingface_hub.HfApi(endpoint=self.address)

    def files(self, repo: str, revision: str | None = None) -> dict[str, bytes]:
        """Return what a reader gets, by huggingface_hub alone."""
        found = huggingface_hub.snapshot_download(repo, repo_type="dataset", revision=revision)
        return content(Path(found))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server in a process of its own, for this file's tests."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(SERVER)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate()  # closes its standard input, which ends it


@pytest.fixture
def hub(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, and huggingface_hub in this process set to it; waiting between attempts takes no time."""
    from huggingface_hub.utils import _http

    cache = tmp_path / "hf"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    settings = {"ENDPOINT": address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    settings |= {"HUGGINGFACE_CO_URL_TEMPLATE": template}
    for name, value in (settings | {"HF_HUB_CACHE": str(cache / "hub")}).items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    hub = Hub(address, cache)
    hub.log()
    yield hub
    hub.log()


@pytest.fixture
def repo(request: pytest.FixtureRequest) -> str:
    """A repository's name that no other test has."""
    return f"user/t{abs(hash(request.node.nodeid))}"


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but hidden ones."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".")}


def run_client(hub: Hub, code: str, *arguments: str) -> str:
    """Run Python code in a process set to the server by environment variables alone."""
    variables = {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(hub.cache),
        "HF_HUB_OFFLINE": "0",
    }
    line = [sys.executable, "-c", BLOCK + code, *arguments]
    environment = {**os.environ, "HF_TOKEN": "hf_write", **variables}
    result = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_push_publishes_every_byte_in_one_commit_and_tags_it(hub: Hub, repo: str, labelled: Path) -> None:
    done = ladd.push(labelled, repo)

    digest = ladd.load(labelled).manifest.digest
    assert sum("/commit/" in line for line in hub.log()) == 1
    assert done.tag == f"data-{digest[:12]}"
    assert hub.files(repo) == hub.files(repo, done.tag) == content(labelled)


def test_a_second_push_of_the_same_does_nothing(hub: Hub, repo: str, labelled: Path) -> None:
    ladd.push(labelled, repo)
    hub.log()

    again = ladd.push(labelled, repo)

    assert again.operations == ()
    assert not [line for line in hub.log() if not line.startswith(("GET", "HEAD"))]


def test_a_changed_dataset_uploads_what_differs_and_removes_what_is_gone(
    hub: Hub, repo: str, labelled: Path, tmp_path: Path
) -> None:
    wide = shutil.copytree(labelled, tmp_path / "wide")
    (wide / "meta" / "note.txt").write_text("of the first version")
    ladd.push(wide, repo)
    hub.log()

    done = ladd.push(labelled, repo, tag="v2")

    assert done.operations[0] == "delete meta/note.txt" and done.uploaded == 0 and done.kept == len(content(labelled))
    assert hub.files(repo, "v2") == content(labelled)
    assert not [line for line in hub.log() if line.startswith("PUT")]


def test_a_dry_run_says_each_operation_and_changes_nothing(hub: Hub, repo: str, labelled: Path) -> None:
    plan = ladd.push(labelled, repo, dry_run=True, private=True, tag="v1.0.0")

    assert not [line for line in hub.log() if not line.startswith(("GET", "HEAD"))]
    done = ladd.push(labelled, repo, private=True, tag="v1.0.0")
    assert plan.operations == done.operations
    assert plan.operations[0] == f"create private repository {repo}" and plan.operations[-1] == "tag v1.0.0"
    assert hub.api().repo_info(repo, repo_type="dataset").private


def test_a_branch_of_its_own_leaves_main_alone(hub: Hub, repo: str, unlabelled: Path, labelled: Path) -> None:
    ladd.push(unlabelled, repo)

    ladd.push(labelled, repo, revision="dense")

    assert (hub.files(repo), hub.files(repo, "dense")) == (content(unlabelled), content(labelled))


def test_a_tag_never_moves(hub: Hub, repo: str, unlabelled: Path, labelled: Path) -> None:
    ladd.push(unlabelled, repo, tag="v1")
    hub.log()

    with pytest.raises(ladd.UsageError, match=r'the tag "v1" stands at another version .* never moves'):
        ladd.push(labelled, repo, tag="v1")

    assert hub.files(repo) == hub.files(repo, "v1") == content(unlabelled)


def test_an_invalid_dataset_is_not_sent(hub: Hub, repo: str, labelled: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(labelled, tmp_path / "broken")
    (broken / "meta" / "ladd.json").write_text("{}")

    with pytest.raises(ladd.DatasetError):
        ladd.push(broken, repo)

    assert hub.log() == []


def test_data_of_another_kind_is_not_replaced_unless_told(hub: Hub, repo: str, labelled: Path) -> None:
    hub.api().create_repo(repo, repo_type="dataset")
    hub.api().upload_file(path_or_fileobj=b"1", path_in_repo="data/a.csv", repo_id=repo, repo_type="dataset")

    with pytest.raises(ladd.UsageError, match=r"holds data/a.csv and no meta/ladd.json.*--overwrite"):
        ladd.push(labelled, repo)
    ladd.push(labelled, repo, overwrite=True)

    assert hub.files(repo) == content(labelled)


def test_what_people_wrote_into_the_card_stays(hub: Hub, repo: str, unlabelled: Path, labelled: Path) -> None:
    ladd.push(unlabelled, repo)
    card = hub.files(repo)["README.md"].decode().replace("tags:\n", "language: en\ntags:\n- insects\n", 1)
    written = f"{card}\n## How we chose\n\n```text\n# by hand\n```\n"
    hub.api().upload_file(path_or_fileobj=written.encode(), path_in_repo="README.md", repo_id=repo, repo_type="dataset")

    ladd.push(labelled, repo)
    published = hub.files(repo)["README.md"].decode()

    assert published.endswith("## How we chose\n\n```text\n# by hand\n```\n") and "dense labels" in published
    assert "language: en" in published and "- insects" in published
    assert ladd.push(labelled, repo).operations == ()
    assert ladd.load(repo).manifest == ladd.load(labelled).manifest
    assert ladd.validate(fetch(repo)).valid


@pytest.mark.parametrize("old", ["plain text\n", "---\na: [\n---\ntext\n", "---\ntags: one\n---\n"])
def test_a_card_that_was_never_ours_is_kept_and_stays_so(old: str, labelled: Path) -> None:
    new = (labelled / "README.md").read_text()

    merged = merge_cards(new, old)

    assert merge_cards(new, merged) == merged
    assert "text" not in old or "## About\n\n" in merged


@pytest.mark.parametrize(
    ("token", "words"), [("", "no token"), ("hf_read", "read-only"), ("hf_wrong", "does not know this token")]
)
def test_without_the_right_token_nothing_is_sent(
    hub: Hub, repo: str, labelled: Path, monkeypatch: pytest.MonkeyPatch, token: str, words: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(hub.cache / "none"))

    with pytest.raises(ladd.LaddError, match=words) as caught:
        ladd.push(labelled, repo)

    assert caught.value.exit_code == 1
    assert not [line for line in hub.log() if not line.startswith("GET")]


@pytest.mark.parametrize(
    ("kind", "match", "words"),
    [
        ("412", "/commit/", "someone else has pushed meanwhile.*was not changed"),
        ("500", "/commit/", "fault of its own.*was not changed"),
        ("429", "/preupload/", "too many requests.*was not changed"),
        ("500", "PUT /_upload", "fault of its own.*was not changed"),
        ("cut", "PUT /_upload", "connection .* failed.*was not changed"),
        ("cut-half", "GET .*/tree/", "connection .* failed.*was not changed"),
        ("500", "/tag/", "its tag is not"),
    ],
)
def test_what_the_hub_cannot_do_is_one_sentence(
    hub: Hub, repo: str, unlabelled: Path, labelled: Path, kind: str, match: str, words: str
) -> None:
    ladd.push(unlabelled, repo)
    hub.fail(kind, match, times=99)

    with pytest.raises(ladd.LaddError, match=words) as caught:
        ladd.push(labelled, repo)

    hub.log()
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert hub.files(repo) == content(labelled if "/tag/" in match else unlabelled)


@pytest.mark.parametrize(("kind", "match"), [("429", "/preupload/"), ("500", "batch"), ("cut", "PUT"), ("slow", "PUT")])
def test_a_passing_fault_passes(hub: Hub, repo: str, labelled: Path, kind: str, match: str) -> None:
    hub.fail(kind, match)

    ladd.push(labelled, repo)

    assert hub.files(repo) == content(labelled)


def test_another_writer_between_look_and_commit_is_not_overwritten(
    hub: Hub, repo: str, unlabelled: Path, labelled: Path
) -> None:
    ladd.push(unlabelled, repo)

    def interfere(done: int, total: int) -> None:
        hub.api().upload_file(path_or_fileobj=b"!", path_in_repo="theirs", repo_id=repo, repo_type="dataset")

    with pytest.raises(ladd.LaddError, match="someone else has pushed"):
        ladd.push(labelled, repo, on_progress=interfere)

    assert hub.files(repo) == content(unlabelled) | {"theirs": b"!"}


def test_an_answer_that_is_lost_after_the_commit_is_found_out(hub: Hub, repo: str, labelled: Path) -> None:
    hub.fail("cut-after", "/commit/")

    done = ladd.push(labelled, repo)

    assert hub.files(repo, done.tag) == content(labelled)
    assert done.commit == hub.api().repo_info(repo, repo_type="dataset").sha


STEPS = (
    *("GET .*/whoami", "GET .*/refs", "GET .*/tree/", "resolve/.*README", "/preupload/"),
    *("/batch", "PUT /_upload", "/commit/", "/tag/"),
)


@pytest.mark.parametrize(("match", "kind"), [*((step, "cut") for step in STEPS), ("/commit/", "cut-after")])
def test_a_reader_sees_the_old_version_or_the_new_one_wherever_the_line_is_cut(
    hub: Hub, repo: str, unlabelled: Path, labelled: Path, match: str, kind: str
) -> None:
    ladd.push(unlabelled, repo)
    hub.fail(kind, match, times=99)

    with pytest.raises(ladd.LaddError) if kind == "cut" else nullcontext():
        ladd.push(labelled, repo)
    hub.log()
    seen = hub.files(repo)
    ladd.push(labelled, repo)

    assert seen == content(labelled if "/tag/" in match or kind == "cut-after" else unlabelled)
    assert hub.files(repo) == content(labelled)


def test_pull_gives_the_same_bytes_back(hub: Hub, repo: str, unlabelled: Path, labelled: Path, tmp_path: Path) -> None:
    first = ladd.push(unlabelled, repo)
    ladd.push(labelled, repo)

    ladd.pull(repo, tmp_path / "new")
    ladd.pull(repo, tmp_path / "old", revision=first.tag)

    assert content(tmp_path / "new") == content(labelled) and content(tmp_path / "old") == content(unlabelled)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "data", "meta"]


@pytest.mark.parametrize(("kind", "match"), [("cut", "_files|resolve"), ("500", "tree|revision"), ("404", "_files")])
def test_a_pull_that_fails_leaves_nothing(
    hub: Hub, repo: str, labelled: Path, tmp_path: Path, kind: str, match: str
) -> None:
    ladd.push(labelled, repo)
    hub.fail(kind, match, times=999)

    with pytest.raises(ladd.LaddError, match="was not changed") as caught:
        ladd.pull(repo, tmp_path / "copy")

    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_load_by_name_reads_regular_files_of_the_cache(hub: Hub, repo: str, unlabelled: Path, labelled: Path) -> None:
    first = ladd.push(unlabelled, repo)
    ladd.push(labelled, repo)
    newest = ladd.load(repo)

    assert newest.manifest == ladd.load(labelled).manifest
    assert ladd.load(repo, revision=first.tag).manifest == ladd.load(unlabelled).manifest
    assert ladd.load(f"hf://datasets/{repo}@{first.tag}").view_spec is None
    assert not [path for path in newest.folder.path.rglob("*") if path.is_symlink()]
    shard = next((newest.folder.path / "data").iterdir())
    assert shard.stat().st_nlink == 2  # the cache's bytes, not a copy of them


def test_load_by_name_reads_the_cache_when_the_line_is_down(hub: Hub, repo: str, labelled: Path) -> None:
    ladd.push(labelled, repo)
    ladd.load(repo)
    hub.fail("cut", times=99)

    again = ladd.load(repo)

    assert len(again) == 6


def test_names_that_lead_nowhere_are_said_to(hub: Hub, repo: str, labelled: Path) -> None:
    with pytest.raises(ladd.LaddError, match=r"no such dataset on .* and no such folder"):
        ladd.load(repo)
    ladd.push(labelled, repo)
    with pytest.raises(ladd.LaddError, match='no revision "v9"'):
        ladd.load(repo, revision="v9")
    with pytest.raises(ladd.UsageError, match="a folder has no revisions"):
        ladd.load(labelled, revision="v9")
    with pytest.raises(ladd.UsageError, match="user/name"):
        ladd.push(labelled, "a/b/c")


def test_the_commands_push_pull_and_say_what_they_do(
    hub: Hub,
    repo: str,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ladd", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        return capsys.readouterr().out

    assert "would upload meta/ladd.json" in run("push", labelled, repo, "--dry-run")
    assert "tag v1.0.0" in run("push", labelled, repo, "--tag", "v1.0.0")
    assert "nothing was done" in run("push", labelled, repo, "--tag", "v1.0.0")
    assert "6 records" in run("pull", repo, tmp_path / "copy", "--revision", "v1.0.0")
    assert json.loads(run("push", labelled, repo, "--tag", "v1.0.0", "--json"))["operations"] == []


PLAIN = """
import sys, numpy, datasets, duckdb, huggingface_hub, webdataset, itertools
repo, tar, tag = sys.argv[1:]
for options in ({}, {"revision": tag}):
    d = datasets.load_dataset(repo, split="train", **options).with_format(
        "numpy", columns=["dense_log_probs"], output_all_columns=True)
    print(d[0]["image"].size, d.features["label"].names, d[0]["dense_log_probs"].shape)
s = list(datasets.load_dataset(repo, split="train", streaming=True))
print(len(s), numpy.array(s[5]["dense_log_probs"]).shape)
file = huggingface_hub.hf_hub_download(repo, "data/train-00000-of-00001.parquet", repo_type="dataset", revision=tag)
print(duckdb.sql(f"select count(*), max(label) from '{file}'").fetchall())
folder = huggingface_hub.snapshot_download(repo, repo_type="dataset")
print(datasets.load_dataset(folder, split="train").num_rows)
url = huggingface_hub.hf_hub_url(tar, "data/train-00000-of-00001.tar", repo_type="dataset")
w = list(webdataset.WebDataset(f"pipe:curl -sL {url}", shardshuffle=False).decode("rgb8"))
print(len(w), w[0]["dense_log_probs.npy"].shape if "dense_log_probs.npy" in w[0] else sorted(w[0]))
print(datasets.load_dataset(tar, split="train").num_rows)
"""


def test_plain_clients_read_what_was_pushed(hub: Hub, repo: str, labelled: Path, tmp_path: Path) -> None:
    from ladd_data.export import export_dataset

    export_dataset(ladd.load(labelled), "webdataset", tmp_path / "tar")
    ladd.push(tmp_path / "tar", f"{repo}-wds")
    done = ladd.push(labelled, repo)

    lines = run_client(hub, PLAIN, repo, f"{repo}-wds", done.tag).splitlines()

    whole = "(32, 32) ['ant', 'bee', 'cat'] (25, 3)"
    assert lines == [whole, whole, "6 (25, 3)", "[(6, 2)]", "6", "6 (25, 3)", "6"]


MAPPED = """
import sys, datasets
d = datasets.load_dataset(sys.argv[1], split="train").filter(lambda r: r["label"] > 0)
d.push_to_hub(sys.argv[1])
"""


def test_after_another_users_push_to_hub_we_say_what_still_holds(
    hub: Hub, repo: str, labelled: Path, tmp_path: Path
) -> None:
    done = ladd.push(labelled, repo)
    run_client(hub, MAPPED, repo)

    for read in (lambda: ladd.load(repo), lambda: ladd.pull(repo, tmp_path / "copy")):
        with pytest.raises(ladd.DatasetError, match=r"meta/ is stale.*What still holds: each column's name"):
            read()
    assert ladd.load(repo, revision=done.tag).manifest == ladd.load(labelled).manifest
    ladd.push(labelled, repo)
    assert len(ladd.load(repo)) == 6


@pytest.fixture
def with_sets(labelled: Path, labeler: Path, tmp_path: Path) -> Path:
    """A labelled dataset with two further label sets."""
    folder = tmp_path / "with-sets"
    shutil.copytree(labelled, folder)
    for name, views in (("few", Full()), ("many", Boxes(count=30))):
        add_set(folder, labeler, name, views)
    return folder


def add_set(folder: Path, labeler: Path, name: str, views: Full | Boxes) -> None:
    plan = LabelPlan(load_labeler(labeler), views, ENCODINGS["float32"], torch.device("cpu"))
    add_labels(ladd.load(folder), plan, name)


def test_a_push_carries_label_sets_and_a_pull_brings_them_back(
    hub: Hub, repo: str, with_sets: Path, tmp_path: Path
) -> None:
    ladd.push(with_sets, repo)

    ladd.pull(repo, tmp_path / "back")

    assert content(tmp_path / "back") == content(with_sets)
    assert ladd.validate(tmp_path / "back").problems == ()


def test_a_second_push_sends_the_new_set_alone(
    hub: Hub, repo: str, labelled: Path, labeler: Path, tmp_path: Path
) -> None:
    shutil.copytree(labelled, tmp_path / "set")
    ladd.push(tmp_path / "set", repo)
    add_set(tmp_path / "set", labeler, "new", Full())

    again = ladd.push(tmp_path / "set", repo, tag="v2")

    sent = [line.split(" ")[1] for line in again.operations if line.startswith("upload")]
    names = ("labels.json", "shards.json", "train-00000-of-00001.parquet")
    assert sent == ["README.md", *(f"labels/new/{name}" for name in names)]
    remove_set(read_metadata(tmp_path / "set"), "new")
    gone = ladd.push(tmp_path / "set", repo, tag="v3")
    assert [line for line in gone.operations if line.startswith("delete")] == [
        f"delete labels/new/{name}" for name in names
    ]
    assert ladd.load(repo, revision="v2", labels="new").view_spec == Full()


def test_a_set_is_downloaded_alone_with_the_images(hub: Hub, repo: str, with_sets: Path) -> None:
    ladd.push(with_sets, repo)
    hub.log()

    few = ladd.load(repo, labels="few")

    fetched = [line for line in hub.log() if "/resolve/" in line]
    assert any("labels/few/train-" in line for line in fetched)
    assert not any("labels/many/train-" in line for line in fetched)
    assert few.manifest == ladd.load(with_sets, labels="few").manifest
    plain = ladd.load(repo)
    assert plain.manifest == ladd.load(with_sets).manifest
    many = ladd.load(repo, labels="many")
    assert many.manifest == ladd.load(with_sets, labels="many").manifest
    dense = [next(iter(data.loader(6))).dense for data in (many, ladd.load(with_sets, labels="many"), few)]
    assert dense[0] is not None and dense[1] is not None and dense[2] is not None
    assert torch.equal(dense[0], dense[1]) and dense[2].shape == (6, 1, 3)
    with pytest.raises(ladd.UsageError, match=r'no label set "fewer". Did you mean "few"\? Known: few, many'):
        ladd.load(repo, labels="fewer")


def test_datasets_alone_downloads_one_set_by_its_name(hub: Hub, repo: str, with_sets: Path) -> None:
    ladd.push(with_sets, repo)
    hub.log()
    code = """
import datasets
d = datasets.load_dataset(sys.argv[1], "many")["train"]
print(d.num_rows, d.column_names, len(d[0]["dense_log_probs"]), d[3]["id"])
"""

    out = run_client(hub, code, repo)

    ids = ladd.load(with_sets).arrays.ids
    assert out.strip() == f"6 ['id', 'view_box', 'dense_log_probs', 'dense_logz'] 30 {ids[3]}"
    fetched = [line for line in hub.log() if "/resolve/" in line]
    assert any("labels/many/train" in line for line in fetched)
    assert not any("data/train" in line or "labels/few/train" in line for line in fetched)
    code = """
import datasets
d = datasets.load_dataset(sys.argv[1])["train"]
print(d.column_names, d[0]["image"].size)
print(next(iter(datasets.load_dataset(sys.argv[1], "few", streaming=True)["train"]))["id"])
"""
    assert run_client(hub, code, repo).splitlines() == [
        "['image', 'label', 'id', 'dense_log_probs', 'dense_logz'] (32, 32)",
        ids[0],
    ]
