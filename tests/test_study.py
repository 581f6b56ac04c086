"""The study's page: made of its results alone, and its sentences follow the numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from study import compare  # noqa: E402
from study_cells import STEPS, TABLE_6, list_cells  # noqa: E402
from study_claims import say_encodings, say_losses, say_table6  # noqa: E402
from study_numbers import subtract  # noqa: E402
from study_page import make_page  # noqa: E402

RESULTS = ROOT / "docs" / "study" / "results.json"


@pytest.fixture
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


def set_cell(results: dict[str, Any], section: str, row: str, column: str, mean: float) -> None:
    for cell in results["cells"]:
        if (cell["section"], cell["row"], cell["column"]) == (section, row, column):
            cell["accuracies"] = [mean + noise for noise in (-0.002, 0.001, 0.0, -0.001, 0.002)]


def test_the_page_is_what_its_results_make(results: dict[str, Any]) -> None:
    assert (ROOT / "docs" / "study.md").read_text() == make_page(results)


def test_the_results_are_of_the_cells_that_are_trained(results: dict[str, Any]) -> None:
    stored = [(cell["section"], cell["row"], cell["column"]) for cell in results["cells"]]

    assert stored == [(cell.section, cell.row, cell.column) for cell in list_cells()]
    assert all(len(cell["accuracies"]) == 5 for cell in results["cells"])


def test_all_students_take_the_same_number_of_steps() -> None:
    for cell in list_cells():
        recipe = cell.whole
        assert recipe.epochs and recipe.batch_size
        assert recipe.epochs * (10 * cell.ipc // recipe.batch_size) == STEPS


def test_a_difference_is_clear_where_a_paired_t_test_finds_it() -> None:
    assert subtract([5.0, 6.0, 5.5, 6.5, 6.0], [1.0, 2.0, 1.4, 2.6, 2.0]).clear
    assert not subtract([5.0, 6.0, 5.5, 6.5, 6.0], [6.0, 5.0, 5.6, 6.3, 5.0]).clear
    assert subtract([3.0, 4.0], [1.0, 1.0]).points == 2.5


def test_sentences_turn_with_the_numbers(results: dict[str, Any]) -> None:
    rows = list(TABLE_6)
    for row, mean in zip(rows, (0.6, 0.6, 0.6, 0.6, 0.8, 0.8, 0.9), strict=True):
        set_cell(results, "table6", row, "accuracy", mean)
    set_cell(results, "encodings", "topk-1", "accuracy", 0.5)
    set_cell(results, "losses", "KL, T = 20", "SGD", 0.99)
    shows = say_table6(results)
    set_cell(results, "table6", rows[4], "accuracy", 0.55)
    turned = say_table6(results)

    assert shows[3].endswith("shows.") and turned[3].endswith("does not show.")
    assert "a clear difference" in say_encodings(results)[-1]
    assert "the collapse does not show" in say_losses(results)[-1]


def test_a_second_run_is_compared_student_by_student_and_order_by_order(results: dict[str, Any]) -> None:
    other = json.loads(json.dumps(results))
    set_cell(other, "encodings", "float32", "accuracy", 0.1)

    same, said = compare(results, results)
    assert same and "ANOTHER ORDER" not in said
    same, said = compare(results, other)
    assert not same and "encodings: ANOTHER ORDER of 6 cells, by 5 students each" in said


def test_fewer_students_are_compared_with_as_many(results: dict[str, Any]) -> None:
    fewer = json.loads(json.dumps(results))
    fewer["cells"] = [{**cell, "accuracies": cell["accuracies"][:1]} for cell in fewer["cells"][:18]]

    same, said = compare(results, fewer)

    assert same and said.splitlines() == [
        "18 of 18 students have the same accuracy, to the last bit.",
        "ladd: the same order of 18 cells, by 1 student each",
    ]
