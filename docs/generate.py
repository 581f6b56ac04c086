"""Write cli.md from the commands' help, recipes.md from the recipes: `python docs/generate.py`; --check if stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# The command line

Made from the commands' own help by `python docs/generate.py`; do not edit.

Exit codes: 0 done; 1 the data is at fault (nothing half-written is left); 2 the call is at fault. `--json` prints one
JSON document on stdout and nothing else. Progress is shown on a terminal and not in a pipe.
"""


def read_help(*command: str) -> str:
    """Return what `ladd COMMAND --help` prints, 100 columns wide."""
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    arguments = [sys.executable, "-m", "ladd_data", *command, "--help"]
    output = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
    lines = output.replace("python -m ladd_data", "ladd").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


def make_cli_page() -> str:
    """Return the page of commands."""
    from ladd_data.cli import app

    parts = [HEAD, f"```text\n{read_help()}\n```\n"]
    for info in app.registered_commands:
        parts.append(f"## ladd {info.name}\n\n```text\n{read_help(str(info.name))}\n```\n")
    for group in app.registered_groups:
        commands = group.typer_instance
        for info in commands.registered_commands if commands else ():
            names = [str(commands and commands.info.name), str(info.name)]
            parts.append(f"## ladd {' '.join(names)}\n\n```text\n{read_help(*names)}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the pages, or compare them with what is there."""
    from ladd_data.deploy.recipe_table import make_recipes_page

    for name, make in (("cli.md", make_cli_page), ("recipes.md", make_recipes_page)):
        page, path = make(), HERE / name
        if "--check" not in sys.argv:
            path.write_text(page, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != page:
            sys.exit(f"{path}: stale. Run `python docs/generate.py`.")


if __name__ == "__main__":
    main()
