"""Prove an implementation against the corpus, whatever language it is in.

    python spec/examples/run.py -- ladd validate --json {path}

The command is run once a case, with {path} replaced by the dataset's folder, and prints a verdict as JSON on
stdout: `{"valid": false, "problems": [{"clause": "LADD-023"}]}`. A case passes when `valid` and the set of
clauses are the expected ones; with --where, file, row and id of every problem must be, too. Plain Python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECONDS = 120
"""A command that takes longer hangs."""

Verdict = dict[str, Any]
Judge = Callable[[Path], Verdict]


def list_cases(home: Path = HERE) -> list[Path]:
    """Return the folders of all cases: each has `expected.json` and the dataset `set/`."""
    return sorted(path.parent for path in home.glob("*valid/*/expected.json"))


def compare(expected: Verdict, found: Verdict, *, where: bool = False) -> str:
    """Return how a verdict differs from the expected one; an empty string where it does not."""
    if found.get("valid") is not expected["valid"]:
        return f"valid is {found.get('valid')}, not {expected['valid']}; problems: {found.get('problems')}"
    problems = found.get("problems", [])
    wanted, reported = ({problem["clause"] for problem in some} for some in (expected["problems"], problems))
    if wanted != reported:
        return f"clauses {sorted(reported)}, not {sorted(wanted)}; problems: {problems}"
    if where:
        places = sorted(json.dumps([p["clause"], _place(p["where"])]) for p in expected["problems"])
        named = sorted(json.dumps([p["clause"], _place(p)]) for p in problems)
        if places != named:
            return f"places {named}, not {places}"
    return ""


def _place(problem: Verdict) -> list[Any]:
    return [problem.get(key) for key in ("file", "row", "id")]


def run_cases(judge: Judge, cases: list[Path], *, where: bool = False) -> dict[str, str]:
    """Return how each case differs, by its name; an empty string where it passes."""
    results = {}
    for case in cases:
        expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
        name = f"{case.parent.name}/{case.name}"
        try:
            results[name] = compare(expected, judge(case / "set"), where=where)
        except (ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired) as error:
            results[name] = f"no verdict: {error}"
    return results


def command_judge(command: list[str]) -> Judge:
    """Return the judge that a command line is; its exit code does not matter, what it prints does."""

    def judge(path: Path) -> Verdict:
        line = [word.replace("{path}", str(path)) for word in command]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=SECONDS)
        try:
            verdict: Verdict = json.loads(done.stdout)
        except ValueError as error:
            raise ValueError(f"exit code {done.returncode}, stdout is no JSON; stderr: {done.stderr[-500:]}") from error
        return verdict

    return judge


def main() -> int:
    """Run every case, or those named, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", action="store_true", help="compare file, row and id, too")
    parser.add_argument("--only", default="", help="run the cases whose name holds this")
    parser.add_argument("command", nargs="+", help="the command, after --; {path} stands for the dataset")
    arguments = parser.parse_args()
    cases = [case for case in list_cases() if arguments.only in f"{case.parent.name}/{case.name}"]
    results = run_cases(command_judge(arguments.command), cases, where=arguments.where)
    different = {name: how for name, how in results.items() if how}
    lines = [f"{name}: {how}" for name, how in different.items()]
    lines.append(f"{len(results) - len(different)} of {len(results)} cases pass")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if different or not results else 0


if __name__ == "__main__":
    sys.exit(main())
