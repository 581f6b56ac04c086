"""Tests against a Hub: the servers, each in a process of its own, and unmodified clients that are set to one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from plainly import BLOCK

if TYPE_CHECKING:
    import huggingface_hub

HERE = Path(__file__).parent
SERVERS = ("hub_server.py", "other_hub.py")


@dataclass
class Hub:
    """A server, as a test sees it."""

    address: str
    cache: Path

    def fail(self, kind: str, match: str = "", times: int = 1, skip: int = 0) -> None:
        """Let requests to come fail; `hub_server.py` can."""
        self._control([{"kind": kind, "match": match, "times": times, "skip": skip}])

    def log(self) -> list[str]:
        """Return the requests since the last call, and end all faults."""
        return list(self._control([]))

    def _control(self, faults: list[dict[str, Any]]) -> Any:
        request = Request(f"{self.address}/_control", json.dumps(faults).encode(), method="PUT")
        with urlopen(request) as answer:
            return json.load(answer)

    def api(self) -> huggingface_hub.HfApi:
        import huggingface_hub

        return huggingface_hub.HfApi(endpoint=self.address)

    def files(self, repo: str, revision: str | None = None) -> dict[str, bytes]:
        """Return what a reader gets, by huggingface_hub alone."""
        import huggingface_hub

        return content(Path(huggingface_hub.snapshot_download(repo, repo_type="dataset", revision=revision)))

    def run(self, code: str, *arguments: str) -> str:
        """Run Python code, which cannot import ours, in a process set to the server by environment variables alone."""
        settings = {"HF_ENDPOINT": self.address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        environment = {**os.environ, **settings, "HF_HOME": str(self.cache), "HF_TOKEN": "hf_write"}
        line = [sys.executable, "-c", BLOCK + code, *arguments]
        result = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but hidden ones."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".")}


@contextmanager
def serve(script: str) -> Iterator[str]:
    """Yield the address of a server that runs while the block does."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(HERE / script)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate()  # closes its standard input, which ends it


@contextmanager
def use(address: str, home: Path) -> Iterator[Hub]:
    """Set huggingface_hub in this process to a server; waiting between its attempts takes no time."""
    import huggingface_hub
    from huggingface_hub.utils import _http

    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    settings = {"ENDPOINT": address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    settings |= {"HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(home / "hub")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(huggingface_hub.constants, name, value)
        patch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
        patch.setenv("HF_TOKEN", "hf_write")
        yield Hub(address, home)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The server that fails on request."""
    with serve(SERVERS[0]) as found:
        yield found


@pytest.fixture(scope="module", params=SERVERS)
def any_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the servers."""
    with serve(request.param) as found:
        yield found


@pytest.fixture
def hub(address: str, tmp_path: Path) -> Iterator[Hub]:
    """The server that fails on request, with no faults and an empty log."""
    with use(address, tmp_path / "hf") as found:
        found.log()
        yield found
        found.log()


@pytest.fixture
def any_hub(any_address: str, tmp_path: Path) -> Iterator[Hub]:
    """Each of the servers: what works with one has to work with all."""
    with use(any_address, tmp_path / "hf") as found:
        yield found


@pytest.fixture
def repo(request: pytest.FixtureRequest) -> str:
    """A repository's name that no other test has."""
    return f"user/t{abs(hash(request.node.nodeid))}"


@pytest.fixture
def bare(unlabelled: Path, tmp_path: Path) -> Path:
    """`unlabelled`, to write to: a push writes the repository's name into the card."""
    return Path(shutil.copytree(unlabelled, tmp_path / "own" / "tiny"))


@pytest.fixture
def dense(labelled: Path, tmp_path: Path) -> Path:
    """`labelled`, to write to."""
    return Path(shutil.copytree(labelled, tmp_path / "own" / "tiny-ladd"))
