"""`ladd validate`: everything that is wrong with a dataset, in one report."""

from __future__ import annotations

from typing import Annotated

import typer

from ladd_data.cli.console import AsJson, Source, print_json
from ladd_data.types import Level


def validate(
    directory: Source,
    level: Annotated[
        Level, typer.Option(help="metadata: meta/ and card; structure: + checksums; full: + every record.")
    ] = "full",
    json: AsJson = False,
) -> None:
    """Check a dataset; exit code 1 if anything is wrong."""
    from ladd_data.remote import find_folder
    from ladd_data.validation import validate as check

    folder, _ = find_folder(directory)
    report = check(folder, level)
    if json:
        print_json(
            {
                "path": directory,
                "level": level,
                "valid": report.valid,
                "records": report.records,
                "problems": [problem.as_dict() for problem in report.problems],
                "omitted": report.omitted,
            }
        )
    elif report.valid:
        counted = f", {report.records} records read" if level == "full" else ""
        typer.echo(f"{directory}: valid (level {level}{counted})")
    else:
        for problem in report.problems:
            typer.echo(str(problem))
        more = f" and {report.omitted} more like them" if report.omitted else ""
        count = "1 problem" if len(report.problems) == 1 else f"{len(report.problems)} problems"
        typer.echo(f"{directory}: {count}{more} (level {level})")
        typer.echo(f"What to do: {report.advice}")
    if not report.valid:
        raise typer.Exit(1)
