"""What the losses, labels and encodings do for small students on real digits, in one run; minutes on two cores.

    python benchmarks/study.py [--only SECTION ...] [--jobs 2] [--work study-run] [--markdown docs/study.md]
    python benchmarks/study.py --check [docs/study/results.json] [--students 1] [--only SECTION ...] [--work NEW]

Sections: ladd, table6, losses, views, labeler, encodings. Students that are finished are kept in --work and not
trained again. With --markdown, the page, docs/study/results.json and the plots beside it are written of all
sections; --page writes them anew from results.json, without training.

--check trains again, by default the first of each cell's five students, and compares with the stored results: how many
students came out equal, to the last bit, and whether the cells of every table stand in the same order by the students
that were trained. It ends with 1 where they do not. What is in --work is not trained again: name a new folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch

from study_cells import SEEDS, Cell, list_cells
from study_facts import gather_facts
from study_page import SECTIONS, write_page
from study_sets import Sets, use_one_thread

RESULTS = "study/results.json"


def run_cell(cell: Cell, work: Path, students: int) -> list[float]:
    """Return a cell's accuracies; in a process of its own."""
    use_one_thread()
    return cell.run(Sets(work), students)


def prepare_sets(work: Path, cells: list[Cell]) -> Sets:
    """Make all datasets that cells want, so that no two processes make the same."""
    use_one_thread()
    work.mkdir(parents=True, exist_ok=True)
    sets = Sets(work)
    for number, (distiller, ipc, labels) in enumerate(
        wanted := sorted({(c.distiller, c.ipc, c.labels) for c in cells}), 1
    ):
        sets.labelled(distiller, ipc, labels)
        print(f"\rdatasets {number}/{len(wanted)} ", end="", file=sys.stderr)
    return sets


def run_cells(cells: list[Cell], work: Path, jobs: int, students: int = SEEDS) -> dict[str, list[float]]:
    """Return accuracies by cells' keys, computed by several processes."""
    found: dict[str, list[float]] = {}
    once = {cell.key: cell for cell in cells}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_cell, cell, work, students): key for key, cell in once.items()}
        for number, job in enumerate(as_completed(waiting), 1):
            cell = once[waiting[job]]
            found[cell.key] = job.result()
            mean = sum(found[cell.key]) / len(found[cell.key])
            print(
                f"{number}/{len(once)} {cell.section}: {cell.row}, {cell.column}: {mean:.1%}",
                file=sys.stderr,
                flush=True,
            )
    return found


def collect(cells: list[Cell], found: dict[str, list[float]], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the results as JSON values."""
    rows = [{"section": c.section, "row": c.row, "column": c.column, "accuracies": found[c.key]} for c in cells]
    return {**facts, "cells": rows}


def compare(before: dict[str, Any], now: dict[str, Any]) -> tuple[bool, str]:
    """Return whether two results agree in order, and how: equal students, and the order of every table's cells.

    `now` may have fewer students; they are compared with as many of `before`, and cells are ordered by their means.
    """
    new = {(c["section"], c["row"], c["column"]): c["accuracies"] for c in now["cells"]}
    old = {(c["section"], c["row"], c["column"]): c["accuracies"] for c in before["cells"]}
    old = {place: old[place][: len(found)] for place, found in new.items()}
    students = [(a, b) for place in new for a, b in zip(old[place], new[place], strict=True)]
    lines = [f"{sum(a == b for a, b in students)} of {len(students)} students have the same accuracy, to the last bit."]
    agree = True
    for section in dict.fromkeys(place[0] for place in new):
        places = [place for place in new if place[0] == section]
        orders = [sorted(places, key=lambda place: -sum(table[place])) for table in (old, new)]
        agree &= orders[0] == orders[1]
        count = len(new[places[0]])
        verdict = "the same order" if orders[0] == orders[1] else "ANOTHER ORDER"
        lines.append(f"{section}: {verdict} of {len(places)} cells, by {count} student{'s' * (count > 1)} each")
    return agree, "\n".join(lines)


def main() -> None:
    """Train what is missing, and write or compare."""
    parser = argparse.ArgumentParser(description="The study of docs/study.md.")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("study-run"))
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--check", type=Path, metavar="RESULTS", nargs="?", const=Path("docs") / RESULTS)
    parser.add_argument("--students", type=int, choices=range(1, SEEDS + 1), help="of each cell; with --check alone")
    options = parser.parse_args()
    if options.page:
        page = options.markdown or Path("docs/study.md")
        write_page(page, json.loads((page.parent / RESULTS).read_text()))
        return
    if options.students and not options.check:
        parser.error("--students is for --check: the page is of all students.")
    students = options.students or (1 if options.check else SEEDS)
    cells = [cell for cell in list_cells() if cell.section in options.only]
    sets = prepare_sets(options.work, cells)
    found = run_cells(cells, options.work, options.jobs, students)
    if options.check:
        agree, said = compare(json.loads(options.check.read_text()), collect(cells, found, {}))
        print(said)
        sys.exit(0 if agree else 1)
    results = collect(cells, found, gather_facts(sets, cells))
    if options.markdown:
        if len(options.only) < len(SECTIONS):
            parser.error("--markdown is of all sections: leave out --only.")
        (options.markdown.parent / "study").mkdir(exist_ok=True)
        (options.markdown.parent / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_page(options.markdown, results)
    for cell in results["cells"] if not options.markdown else []:
        mean = sum(cell["accuracies"]) / len(cell["accuracies"])
        print(f"{cell['section']:10} {cell['row']:32} {cell['column']:12} {mean:.2%}")


if __name__ == "__main__":
    main()
