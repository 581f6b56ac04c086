"""Publishing to a Hub, against servers of our own over real HTTP, with unmodified clients."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hub_client import Hub, content

import ladd_data as ladd
from ladd_data.card.merge import merge_cards
from ladd_data.remote import fetch

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


def test_a_push_publishes_every_byte_in_one_commit_and_tags_it(hub: Hub, repo: str, dense: Path) -> None:
    done = ladd.push(dense, repo)

    digest = ladd.load(dense).manifest.digest
    assert sum("/commit/" in line for line in hub.log()) == 1
    assert done.tag == f"data-{digest[:12]}"
    assert hub.files(repo) == hub.files(repo, done.tag) == content(dense)


def test_a_second_push_of_the_same_does_nothing(hub: Hub, repo: str, dense: Path) -> None:
    ladd.push(dense, repo)
    hub.log()

    again = ladd.push(dense, repo)

    assert again.operations == ()
    assert not [line for line in hub.log() if not line.startswith(("GET", "HEAD"))]


def test_a_changed_dataset_uploads_what_differs_and_removes_what_is_gone(
    hub: Hub, repo: str, dense: Path, tmp_path: Path
) -> None:
    wide = shutil.copytree(dense, tmp_path / "wide")
    (wide / "meta" / "note.txt").write_text("of the first version")
    ladd.push(wide, repo)
    hub.log()

    done = ladd.push(dense, repo, tag="v2")

    assert done.operations[0] == "delete meta/note.txt" and done.uploaded == 0 and done.kept == len(content(dense))
    assert hub.files(repo, "v2") == content(dense)
    assert not [line for line in hub.log() if line.startswith("PUT")]


def test_a_dry_run_says_each_operation_and_changes_nothing(hub: Hub, repo: str, dense: Path) -> None:
    plan = ladd.push(dense, repo, dry_run=True, private=True, tag="v1.0.0")

    assert not [line for line in hub.log() if not line.startswith(("GET", "HEAD"))]
    done = ladd.push(dense, repo, private=True, tag="v1.0.0")
    assert plan.operations == done.operations
    assert plan.operations[0] == f"create private repository {repo}" and plan.operations[-1] == "tag v1.0.0"
    assert hub.api().repo_info(repo, repo_type="dataset").private


def test_a_branch_of_its_own_leaves_main_alone(any_hub: Hub, repo: str, bare: Path, dense: Path) -> None:
    ladd.push(bare, repo)

    ladd.push(dense, repo, revision="dense")

    assert (any_hub.files(repo), any_hub.files(repo, "dense")) == (content(bare), content(dense))


def test_a_tag_never_moves(any_hub: Hub, repo: str, bare: Path, dense: Path) -> None:
    ladd.push(bare, repo, tag="v1")

    with pytest.raises(ladd.UsageError, match=r'the tag "v1" stands at another version .* never moves'):
        ladd.push(dense, repo, tag="v1")

    assert any_hub.files(repo) == any_hub.files(repo, "v1") == content(bare)


def test_an_invalid_dataset_is_not_sent(hub: Hub, repo: str, dense: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(dense, tmp_path / "broken")
    (broken / "meta" / "ladd.json").write_text("{}")

    with pytest.raises(ladd.DatasetError):
        ladd.push(broken, repo)

    assert hub.log() == []


def test_data_of_another_kind_is_not_replaced_unless_told(any_hub: Hub, repo: str, dense: Path) -> None:
    any_hub.api().create_repo(repo, repo_type="dataset")
    any_hub.api().upload_file(path_or_fileobj=b"1", path_in_repo="data/a.csv", repo_id=repo, repo_type="dataset")

    with pytest.raises(ladd.UsageError, match=r"holds data/a.csv and no meta/ladd.json.*--overwrite"):
        ladd.push(dense, repo)
    ladd.push(dense, repo, overwrite=True)

    assert any_hub.files(repo) == content(dense)


def test_what_people_wrote_into_the_card_stays(any_hub: Hub, repo: str, bare: Path, dense: Path) -> None:
    ladd.push(bare, repo)
    card = any_hub.files(repo)["README.md"].decode().replace("tags:\n", "language: en\ntags:\n- insects\n", 1)
    written = f"{card}\n## How we chose\n\n```text\n# by hand\n```\n"
    any_hub.api().upload_file(
        path_or_fileobj=written.encode(), path_in_repo="README.md", repo_id=repo, repo_type="dataset"
    )

    ladd.push(dense, repo)
    published = any_hub.files(repo)["README.md"].decode()

    assert published.endswith("## How we chose\n\n```text\n# by hand\n```\n") and "dense labels" in published
    assert "language: en" in published and "- insects" in published
    assert ladd.push(dense, repo).operations == ()
    assert ladd.load(repo).manifest == ladd.load(dense).manifest
    assert ladd.validate(fetch(repo)).valid


@pytest.mark.parametrize("old", ["plain text\n", "---\na: [\n---\ntext\n", "---\ntags: one\n---\n"])
def test_a_card_that_was_never_ours_is_kept_and_stays_so(old: str, dense: Path) -> None:
    new = (dense / "README.md").read_text()

    merged = merge_cards(new, old)

    assert merge_cards(new, merged) == merged
    assert "text" not in old or "## About\n\n" in merged
