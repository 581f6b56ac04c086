"""The documents tell the truth: links lead somewhere, commands and options exist, generated pages are fresh."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ladd_data.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "spec").glob("*.md")])
GROUPS = [str(group.typer_instance.info.name) for group in app.registered_groups if group.typer_instance]
COMMANDS = sorted([*(str(info.name) for info in app.registered_commands), *GROUPS])


def shell_lines(text: str) -> list[str]:
    """Return the commands in a page's sh blocks and inline code, continuation lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`((?:ladd|make|python) [^`\n]+)`", text)
    return [line.split("#")[0].strip() for line in [*joined, *inline] if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    help_of = {name: CliRunner().invoke(app, [name, "--help"]).stdout for name in COMMANDS}
    makefile = (ROOT / "Makefile").read_text()
    for line in shell_lines(page.read_text()):
        words = shlex.split(line.replace("...", ""))
        if words[0] == "ladd" and len(words) > 1:
            assert words[1] in COMMANDS, f"{page.name}: {line}"
            for option in (word for word in words[2:] if word.startswith("--")):
                assert re.search(rf"{option}\b", help_of[words[1]]), f"{page.name}: {line}"
        if words[0] == "make" and len(words) > 1:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), f"{page.name}: {line}"
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{page.name}: {line}"


def test_every_command_is_in_the_readme_or_the_docs() -> None:
    text = "".join(page.read_text() for page in PAGES if page.name != "cli.md")

    assert [name for name in COMMANDS if f"ladd {name}" not in text] == []


def test_the_command_line_page_is_fresh() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr


def test_the_readmes_python_runs(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "digits-ladd").symlink_to(labelled)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 2

    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})


def test_make_says_what_each_target_does() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    described = re.findall(r"^([a-z]+):.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert targets == described


def test_the_python_of_the_loading_page_runs(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LADD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "digits-ladd").symlink_to(labelled)
    names: dict[str, object] = {}

    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "loading.md").read_text(), re.DOTALL):
        exec(compile(snippet, "loading.md", "exec"), names)
