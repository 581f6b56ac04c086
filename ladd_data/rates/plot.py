"""The ladder as a picture: bytes against label error and against accuracy. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

import io
import statistics
from pathlib import Path
from typing import Any

from ladd_data.files import write_atomically
from ladd_data.rates.results import Point, Rates

MISSING = 'No plots: matplotlib is not installed. "pip install ladd-data[plots]", then the same command again.'
_FULL, _FEWER = "#0072b2", "#d55e00"


def write_plots(folder: Path, rates: Rates) -> bool:
    """Write rates.svg and rates.png, and tell whether there is matplotlib; equal ladders give equal SVG bytes."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    except ImportError:
        return False
    labelled = [point for point in rates.points if point.certificate is not None]
    trained = [point for point in rates.points if point.accuracies]
    with matplotlib.rc_context({"svg.hashsalt": "ladd", "svg.fonttype": "none"}):
        panels = 2 if trained else 1
        figure = Figure(figsize=(5.2 * panels, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        first, *others = figure.subplots(1, panels, squeeze=False)[0]
        _draw_error(first, labelled)
        for panel in others:
            _draw_accuracy(panel, trained)
        for panel in (first, *others):
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.set_xlabel("stored bytes of the labels")
        for suffix in ("svg", "png"):
            data = io.BytesIO()
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(data, format=suffix, dpi=150, metadata=metadata)
            write_atomically(folder / f"rates.{suffix}", data.getvalue())
    return True


def _draw_error(panel: Any, points: list[Point]) -> None:
    for point in points:
        if point.certificate is not None:
            _mark(panel, point, max(point.certificate.mean_tv, 1e-8))
    panel.set_yscale("log")
    panel.set_ylabel("mean total variation of the labels kept")


def _draw_accuracy(panel: Any, points: list[Point]) -> None:
    for point in (point for point in points if point.stored):
        spread = 100 * statistics.stdev(point.accuracies) if len(point.accuracies) > 1 else 0.0
        _mark(panel, point, 100 * statistics.fmean(point.accuracies), spread)
    for point in (point for point in points if not point.stored):
        panel.axhline(100 * statistics.fmean(point.accuracies), color="#999999", linestyle=":", label=point.name)
        panel.legend(fontsize=7)
    panel.set_ylabel("accuracy of students, %")


def _mark(panel: Any, point: Point, height: float, spread: float = 0.0) -> None:
    colour = _FEWER if "@" in point.name else _FULL
    panel.errorbar([point.stored], [height], yerr=[spread] if spread else None, fmt="o", capsize=2, color=colour)
    panel.annotate(point.name, (point.stored, height), textcoords="offset points", xytext=(4, 4), fontsize=7)
    panel.spines[["top", "right"]].set_visible(False)
