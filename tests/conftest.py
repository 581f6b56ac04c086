"""Small datasets, built once a session and only read."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub

from pathlib import Path

import pytest
from hub_client import address, any_address, any_hub, bare, dense, hub, repo  # noqa: F401
from making import label, make_distilled, make_labeler, make_pictures

from ladd_data.convert import convert, prepare


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the session's datasets."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def unlabelled(home: Path) -> Path:
    """Six images of 32x32, three classes, no dense labels."""
    convert(prepare(make_distilled(), "tiny"), home / "tiny")
    return home / "tiny"


@pytest.fixture(scope="session")
def jpegs(home: Path) -> Path:
    """Six JPEG files of 32x32, three classes, no dense labels."""
    convert(prepare(make_pictures(home / "jpeg-files"), "jpegs"), home / "jpegs")
    return home / "jpegs"


@pytest.fixture(scope="session")
def labeler(home: Path) -> Path:
    """A labeler that fits `unlabelled`."""
    return make_labeler(home / "labeler.safetensors")


@pytest.fixture(scope="session")
def labelled(home: Path, unlabelled: Path, labeler: Path) -> Path:
    """`unlabelled` with dense labels, profile default."""
    return label(unlabelled, labeler, home / "tiny-ladd")


@pytest.fixture(scope="session")
def paper(home: Path, unlabelled: Path, labeler: Path) -> Path:
    """`unlabelled` with dense labels, profile paper."""
    return label(unlabelled, labeler, home / "tiny-paper", profile="paper")
