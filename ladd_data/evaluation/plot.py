"""The findings as bars: a group a model, a colour an arm, a panel an optimiser. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

import io
from pathlib import Path

from ladd_data.evaluation.arms import ARMS, Arm
from ladd_data.evaluation.results import Findings
from ladd_data.files import write_atomically

COLOURS: dict[Arm, str] = {
    "distilled-soft": "#0072b2",
    "distilled-hard": "#56b4e9",
    "random-soft": "#d55e00",
    "random-hard": "#e69f00",
}
"""Okabe and Ito's, which people who are colour-blind can tell apart."""


def write_plots(folder: Path, findings: Findings) -> str | None:
    """Write results.svg and results.png; equal findings give equal SVG bytes.

    Returns:
        Why there are no plots, in one sentence; None where they were written.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'No plots: matplotlib is not installed. "pip install ladd-data[plots]", then the same command again.'
    with matplotlib.rc_context({"svg.hashsalt": "ladd", "svg.fonttype": "none"}):
        optimizers = list(dict.fromkeys(one.optimizer for one in findings.overall))
        models = list(dict.fromkeys(cell.model for cell in findings.cells))
        figure = Figure(figsize=(max(4.0, 1.5 * len(models)) * len(optimizers), 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(optimizers), sharey=True, squeeze=False)[0]
        for panel, optimizer in zip(panels, optimizers, strict=True):
            _draw(panel, findings, optimizer)
        panels[0].set_ylabel("accuracy, %")
        panels[0].legend(fontsize=7, loc="lower left")
        for suffix in ("svg", "png"):
            data = io.BytesIO()
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(data, format=suffix, dpi=150, metadata=metadata)
            write_atomically(folder / f"results.{suffix}", data.getvalue())
    return None


def _draw(panel: object, findings: Findings, optimizer: str) -> None:
    cells = [cell for cell in findings.cells if cell.optimizer == optimizer]
    models = list(dict.fromkeys(cell.model for cell in cells))
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    wide = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        mine = [findings.find_cell(arm, optimizer, model) for model in models]
        places = [place - 0.4 + wide * (number + 0.5) for place in range(len(models))]
        panel.bar(  # type: ignore[attr-defined]
            places,
            [100 * cell.mean for cell in mine],
            wide * 0.95,
            yerr=[100 * cell.std for cell in mine],
            capsize=2,
            color=COLOURS[arm],
            label=ARMS[arm],
        )
    panel.set_xticks(range(len(models)), models, fontsize=8)  # type: ignore[attr-defined]
    panel.set_title(optimizer, fontsize=9)  # type: ignore[attr-defined]
    panel.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]
