"""The plots of docs/study.md: small SVG files, equal for equal results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from study_numbers import Table

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9")
"""Okabe and Ito's, which people who are colour-blind can tell apart."""


@contextmanager
def drawing(path: Path, wide: float = 6.0, high: float = 2.8) -> Iterator[Any]:
    """Yield axes, and write them when the block ends."""
    with matplotlib.rc_context({"svg.hashsalt": "ladd", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(wide, high), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel("accuracy, %")
        yield axes
        figure.savefig(path, format="svg", metadata={"Date": None})
    text = path.read_text(encoding="utf-8")  # matplotlib leaves blanks at the ends of lines
    path.write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()), encoding="utf-8")


def bars(axes: Any, table: Table, rows: Sequence[str], columns: Sequence[str], names: Sequence[str]) -> None:
    """Draw a group of bars a row, a colour a column."""
    wide = 0.8 / len(columns)
    for number, column in enumerate(columns):
        places = [place - 0.4 + wide * (number + 0.5) for place in range(len(rows))]
        heights, errors = [table.mean(row, column) for row in rows], [table.std(row, column) for row in rows]
        colour = COLOURS[number % len(COLOURS)]
        axes.bar(places, heights, wide * 0.92, yerr=errors, capsize=2, color=colour, label=column)
    axes.set_xticks(range(len(rows)), names)
    if len(columns) > 1:
        axes.legend(loc="lower right", ncols=len(columns))


def floor(axes: Any, table: Table) -> None:
    """Begin the axis a little below the lowest bar: differences are what is looked at."""
    lowest = min(table.mean(row, column) - table.std(row, column) for row in table.rows for column in table.columns)
    axes.set_ylim(max(0.0, lowest - 10), 100)


def draw_ladd(results: dict[str, Any], path: Path) -> None:
    """Hard labels and LADD, by distiller and IPC."""
    table = Table(results, "ladd")
    with drawing(path, 7.5) as axes:
        bars(axes, table, table.rows, table.columns, [row.replace(", ", "\n") for row in table.rows])
        floor(axes, table)


def draw_table6(results: dict[str, Any], path: Path) -> None:
    """The seven rows."""
    table = Table(results, "table6")
    with drawing(path, 7.5) as axes:
        bars(axes, table, table.rows, ["accuracy"], [row.replace(", ", "\n").replace("; ", "\n") for row in table.rows])
        floor(axes, table)


def draw_losses(results: dict[str, Any], path: Path) -> None:
    """Losses, a colour an optimiser."""
    table = Table(results, "losses")
    with drawing(path) as axes:
        bars(axes, table, table.rows, table.columns, table.rows)
        axes.set_ylim(0, 100)


def draw_views(results: dict[str, Any], path: Path) -> None:
    """Accuracy over N, a line an R."""
    table = Table(results, "views")
    with drawing(path, 4.5) as axes:
        for number, row in enumerate(table.rows):
            means, errors = [table.mean(row, c) for c in table.columns], [table.std(row, c) for c in table.columns]
            axes.errorbar(table.columns, means, errors, marker="o", capsize=2, color=COLOURS[number], label=row)
        axes.legend()


def draw_labeler(results: dict[str, Any], path: Path) -> None:
    """The labeler's accuracy and that of the students it labels for, over its epochs."""
    table = Table(results, "labeler")
    with drawing(path, 4.5) as axes:
        own = [100 * one["accuracy"] for one in results["labelers"]]
        students, errors = [table.mean(row) for row in table.rows], [table.std(row) for row in table.rows]
        axes.plot(table.rows, own, marker="s", color=COLOURS[0], label="labeler")
        axes.errorbar(table.rows, students, errors, marker="o", capsize=2, color=COLOURS[1], label="students")
        axes.set_xlabel("epochs of the labeler")
        axes.legend(loc="lower right")


def draw_encodings(results: dict[str, Any], path: Path) -> None:
    """Accuracy over bytes."""
    table = Table(results, "encodings")
    with drawing(path, 4.5) as axes:
        for number, (row, one) in enumerate(zip(table.rows, results["encodings"], strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            axes.errorbar(one["bytes_per_view"], table.mean(row), table.std(row), marker="o", capsize=2, color=colour)
            axes.annotate(row, (one["bytes_per_view"], table.mean(row)), (4, 4), textcoords="offset points")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("bytes a view")


PLOTS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "ladd": draw_ladd,
    "table6": draw_table6,
    "losses": draw_losses,
    "views": draw_views,
    "labeler": draw_labeler,
    "encodings": draw_encodings,
}
