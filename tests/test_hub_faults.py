"""What a Hub or the connection to it can do to a push, a pull and a load: one sentence each, and nothing half."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import huggingface_hub
import pytest
from hub_client import Hub, content

import ladd_data as ladd

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


@pytest.mark.parametrize(
    ("token", "words"), [("", "no token"), ("hf_read", "read-only"), ("hf_wrong", "does not know this token")]
)
def test_without_the_right_token_nothing_is_sent(
    hub: Hub, repo: str, dense: Path, monkeypatch: pytest.MonkeyPatch, token: str, words: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(hub.cache / "none"))

    with pytest.raises(ladd.LaddError, match=words) as caught:
        ladd.push(dense, repo)

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
    hub: Hub, repo: str, bare: Path, dense: Path, kind: str, match: str, words: str
) -> None:
    ladd.push(bare, repo)
    hub.fail(kind, match, times=99)

    with pytest.raises(ladd.LaddError, match=words) as caught:
        ladd.push(dense, repo)

    hub.log()
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert hub.files(repo) == content(dense if "/tag/" in match else bare)


@pytest.mark.parametrize(("kind", "match"), [("429", "/preupload/"), ("500", "batch"), ("cut", "PUT"), ("slow", "PUT")])
def test_a_passing_fault_passes(hub: Hub, repo: str, dense: Path, kind: str, match: str) -> None:
    hub.fail(kind, match)

    ladd.push(dense, repo)

    assert hub.files(repo) == content(dense)


def test_another_writer_between_look_and_commit_is_not_overwritten(
    any_hub: Hub, repo: str, bare: Path, dense: Path
) -> None:
    ladd.push(bare, repo)

    def interfere(done: int, total: int) -> None:
        any_hub.api().upload_file(path_or_fileobj=b"!", path_in_repo="theirs", repo_id=repo, repo_type="dataset")

    with pytest.raises(ladd.LaddError, match="someone else has pushed"):
        ladd.push(dense, repo, on_progress=interfere)

    assert any_hub.files(repo) == content(bare) | {"theirs": b"!"}


def test_an_answer_that_is_lost_after_the_commit_is_found_out(hub: Hub, repo: str, dense: Path) -> None:
    hub.fail("cut-after", "/commit/")

    done = ladd.push(dense, repo)

    assert hub.files(repo, done.tag) == content(dense)
    assert done.commit == hub.api().repo_info(repo, repo_type="dataset").sha


STEPS = (
    *("GET .*/whoami", "GET .*/refs", "GET .*/tree/", "resolve/.*README", "/preupload/"),
    *("/batch", "PUT /_upload", "/commit/", "/tag/"),
)


@pytest.mark.parametrize(("match", "kind"), [*((step, "cut") for step in STEPS), ("/commit/", "cut-after")])
def test_a_reader_sees_the_old_version_or_the_new_one_wherever_the_line_is_cut(
    hub: Hub, repo: str, bare: Path, dense: Path, match: str, kind: str
) -> None:
    ladd.push(bare, repo)
    hub.fail(kind, match, times=99)

    with pytest.raises(ladd.LaddError) if kind == "cut" else nullcontext():
        ladd.push(dense, repo)
    hub.log()
    seen = hub.files(repo)
    ladd.push(dense, repo)

    assert seen == content(dense if "/tag/" in match or kind == "cut-after" else bare)
    assert hub.files(repo) == content(dense)


@pytest.mark.parametrize(("kind", "match"), [("cut", "_files|resolve"), ("500", "tree|revision"), ("404", "_files")])
def test_a_pull_that_fails_leaves_nothing(
    hub: Hub, repo: str, dense: Path, tmp_path: Path, kind: str, match: str
) -> None:
    ladd.push(dense, repo)
    hub.fail(kind, match, times=999)

    with pytest.raises(ladd.LaddError, match="was not changed") as caught:
        ladd.pull(repo, tmp_path / "copy")

    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_load_by_name_reads_the_cache_when_the_line_is_down(hub: Hub, repo: str, dense: Path) -> None:
    ladd.push(dense, repo)
    ladd.load(repo)
    hub.fail("cut", times=99)

    again = ladd.load(repo)

    assert len(again) == 6
