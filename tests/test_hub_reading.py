"""What was pushed comes back: by pull, by name, by commands, and with other people's libraries."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hub_client import Hub, content

import ladd_data as ladd
from ladd_data.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


def test_pull_gives_the_same_bytes_back(any_hub: Hub, repo: str, bare: Path, dense: Path, tmp_path: Path) -> None:
    first = ladd.push(bare, repo)
    ladd.push(dense, repo)

    ladd.pull(repo, tmp_path / "new")
    ladd.pull(repo, tmp_path / "old", revision=first.tag)

    assert content(tmp_path / "new") == content(dense) and content(tmp_path / "old") == content(bare)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md",
        "croissant.json",
        "data",
        "meta",
        "samples.png",
    ]


def test_load_by_name_reads_regular_files_of_the_cache(any_hub: Hub, repo: str, bare: Path, dense: Path) -> None:
    first = ladd.push(bare, repo)
    ladd.push(dense, repo)
    newest = ladd.load(repo)

    assert newest.manifest == ladd.load(dense).manifest
    assert ladd.load(repo, revision=first.tag).manifest == ladd.load(bare).manifest
    assert ladd.load(f"hf://datasets/{repo}@{first.tag}").view_spec is None
    assert not [path for path in newest.folder.path.rglob("*") if path.is_symlink()]
    shard = next((newest.folder.path / "data").iterdir())
    assert shard.stat().st_nlink == 2  # the cache's bytes, not a copy of them


def test_names_that_lead_nowhere_are_said_to(any_hub: Hub, repo: str, dense: Path) -> None:
    with pytest.raises(ladd.LaddError, match=r"no such dataset on .* and no such folder"):
        ladd.load(repo)
    ladd.push(dense, repo)
    with pytest.raises(ladd.LaddError, match='no revision "v9"'):
        ladd.load(repo, revision="v9")
    with pytest.raises(ladd.UsageError, match="a folder has no revisions"):
        ladd.load(dense, revision="v9")
    with pytest.raises(ladd.UsageError, match="user/name"):
        ladd.push(dense, "a/b/c")


def test_the_commands_push_pull_and_say_what_they_do(
    any_hub: Hub,
    repo: str,
    dense: Path,
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

    assert "would upload meta/ladd.json" in run("push", dense, repo, "--dry-run")
    assert "tag v1.0.0" in run("push", dense, repo, "--tag", "v1.0.0")
    assert "nothing was done" in run("push", dense, repo, "--tag", "v1.0.0")
    assert "6 records" in run("pull", repo, tmp_path / "copy", "--revision", "v1.0.0")
    assert json.loads(run("push", dense, repo, "--tag", "v1.0.0", "--json"))["operations"] == []


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


def test_plain_clients_read_what_was_pushed(any_hub: Hub, repo: str, dense: Path, tmp_path: Path) -> None:
    from ladd_data.export import export_dataset

    export_dataset(ladd.load(dense), "webdataset", tmp_path / "tar")
    ladd.push(tmp_path / "tar", f"{repo}-wds")
    done = ladd.push(dense, repo)

    lines = any_hub.run(PLAIN, repo, f"{repo}-wds", done.tag).splitlines()

    whole = "(32, 32) ['ant', 'bee', 'cat'] (25, 3)"
    assert lines == [whole, whole, "6 (25, 3)", "[(6, 2)]", "6", "6 (25, 3)", "6"]


MAPPED = """
import sys, datasets
d = datasets.load_dataset(sys.argv[1], split="train").filter(lambda r: r["label"] > 0)
d.push_to_hub(sys.argv[1])
"""


def test_after_another_users_push_to_hub_we_say_what_still_holds(
    any_hub: Hub, repo: str, dense: Path, tmp_path: Path
) -> None:
    done = ladd.push(dense, repo)
    any_hub.run(MAPPED, repo)

    for read in (lambda: ladd.load(repo), lambda: ladd.pull(repo, tmp_path / "copy")):
        with pytest.raises(ladd.DatasetError, match=r"meta/ is stale.*What still holds: each column's name"):
            read()
    assert ladd.load(repo, revision=done.tag).manifest == ladd.load(dense).manifest
    ladd.push(dense, repo)
    assert len(ladd.load(repo)) == 6
