"""The card as the Hub shows it: its code runs as it stands, by name, and all that belongs to it is published."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from cards import code_of, run_blocks
from plainly import BLOCK
from test_card import stored_probs

import ladd_data as ladd
from ladd_data.card.croissant import CROISSANT_PATH
from ladd_data.card.picture import PICTURE_PATH
from ladd_data.card.sections import make_section, put_section
from ladd_data.export import export_dataset
from ladd_data.types import Edition

SERVER = Path(__file__).with_name("hub_server.py")
KINDS = ("labels-float16", "boxes-flipped", "labels-q4", "jpeg-labelled", "soft-targets")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What sets unmodified clients to a server of our own, in a process of its own."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(SERVER)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        home = str(tmp_path_factory.mktemp("hf"))
        settings = {"HF_ENDPOINT": process.stdout.readline().strip(), "HF_HOME": home, "HF_TOKEN": "hf_write"}
        yield settings | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "USE_TORCH": "0"}
        process.communicate()


def run_ours(variables: dict[str, str], *arguments: object, status: int = 0) -> str:
    line = [sys.executable, "-m", "ladd_data", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == status, done.stderr
    return done.stdout


def get(variables: dict[str, str], repo: str, path: str) -> bytes:
    """Return a published file, as a browser gets it."""
    request = Request(f"{variables['HF_ENDPOINT']}/datasets/{repo}/resolve/main/{path}")
    with urlopen(request) as answer:
        return bytes(answer.read())


@pytest.fixture(scope="module")
def published(
    variables: dict[str, str], labelled: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, Path]]:
    """Repositories by what they hold, each with the folder it was pushed from."""
    home = tmp_path_factory.mktemp("sets")
    corpus = Path(__file__).parents[1] / "spec/examples/valid"
    sources = {kind: corpus / kind / "set" for kind in KINDS} | {"labelled": labelled}
    editions: tuple[Edition, ...] = ("parquet", "webdataset", "arrow")
    done = {}
    for kind, source in sources.items():
        for edition in editions if kind == "labelled" else editions[:1]:
            name = f"{kind}-{edition}"
            export_dataset(ladd.load(source), edition, home / name)
            run_ours(variables, "push", home / name, f"user/{name}")
            done[name] = (f"user/{name}", home / name)
    return done


def test_plain_code_runs_as_it_stands_by_name(
    variables: dict[str, str], published: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    blocks = [code_of(get(variables, repo, "README.md").decode())[0] for repo, _ in published.values()]

    seen = run_blocks(blocks, tmp_path, variables)

    for (_, folder), block, found in zip(published.values(), blocks, seen, strict=True):
        dataset = ladd.load(folder)
        assert "PATH" not in block and np.array_equal(found.image, dataset[0].image.numpy())
        if dataset.manifest.labels is not None:
            assert found.probs.dtype == np.float32 and np.allclose(found.probs.sum(1), 1, atol=2e-3)
            assert np.abs(found.probs - stored_probs(folder)).max() < 1e-6


def test_every_other_block_runs_as_it_stands_by_name(
    variables: dict[str, str], published: dict[str, tuple[str, Path]]
) -> None:
    code = []
    for repo, _ in published.values():
        _, *further, _ = code_of(get(variables, repo, "README.md").decode())
        code += further
    ours = [code_of(get(variables, repo, "README.md").decode())[-1] for repo, _ in published.values()]
    assert len(code) == 2 and all("PATH" not in block for block in [*code, *ours])

    for blocks, start in ((code, BLOCK), (ours, "")):
        line = [sys.executable, "-c", start + "\n".join(blocks)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **variables})
        assert done.returncode == 0, done.stderr


def test_card_picture_and_croissant_are_published_and_name_the_repository(
    variables: dict[str, str], published: dict[str, tuple[str, Path]]
) -> None:
    for repo, folder in published.values():
        for name in ("README.md", PICTURE_PATH, CROISSANT_PATH):
            assert get(variables, repo, name) == (folder / name).read_bytes()
        croissant = json.loads(get(variables, repo, CROISSANT_PATH))
        assert croissant["url"] == f"https://huggingface.co/datasets/{repo}"
        assert ladd.validate(folder).problems == ()
        assert "nothing" in run_ours(variables, "push", folder, repo).lower()


def test_a_dry_run_lists_them_and_changes_nothing(variables: dict[str, str], labelled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "set"))
    before = (folder / "README.md").read_bytes()

    said = run_ours(variables, "push", folder, "user/dry", "--dry-run")

    for name in ("README.md", PICTURE_PATH, CROISSANT_PATH):
        assert f"upload {name} (" in said
    assert (folder / "README.md").read_bytes() == before


def test_a_pull_pushed_elsewhere_takes_the_new_name(
    variables: dict[str, str], published: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    repo, folder = published["labelled-parquet"]
    run_ours(variables, "pull", repo, tmp_path / "set")
    assert (tmp_path / "set/README.md").read_bytes() == (folder / "README.md").read_bytes()

    run_ours(variables, "push", tmp_path / "set", "user/elsewhere")

    card = get(variables, "user/elsewhere", "README.md").decode()
    assert "user/elsewhere" in card and repo not in card
    assert get(variables, repo, "README.md") == (folder / "README.md").read_bytes()


def test_a_section_put_into_the_card_is_published_with_it(
    variables: dict[str, str], labelled: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "set"))
    card = put_section((folder / "README.md").read_text(), make_section("Results", ["| network |", "|---|", "| a |"]))
    (folder / "README.md").write_text(card)

    run_ours(variables, "push", folder, "user/results")

    assert "## Results" in get(variables, "user/results", "README.md").decode()


def test_a_folder_that_may_not_be_written_is_pushed_all_the_same(
    variables: dict[str, str], labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ladd_data.card import write

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(write, "write_atomically", refuse)
    folder = Path(shutil.copytree(labelled, tmp_path / "set"))

    write.write_repo_name(ladd.load(folder).folder, "user/readonly")

    assert b"user/readonly" not in (folder / "README.md").read_bytes()
