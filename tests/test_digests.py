"""Digests do not depend on the order in which records come, and cost little memory."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np

from ladd_data.digests import DigestMeter, digest_columns
from ladd_data.manifest import Classes, classes_digest
from ladd_data.types import Columns

CLASSES = Classes(names=("ant", "bee"))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_digests_are_those_of_the_lines_that_the_spec_states_in_id_order() -> None:
    columns: Columns = {
        "dense_logits": np.arange(12, dtype=np.float16).reshape(3, 2, 2),
        "soft_probs": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    dense, soft = ({name: columns[name]} for name in columns)
    meter = DigestMeter(CLASSES)
    rows = {"b": 0, "a10": 1, "a9": 2}
    for name, row in rows.items():
        meter.add(name, row, sha(name), columns, row)
    order = ["a10", "a9", "b"]
    found = meter.result()

    assert found.images == sha("".join(f"{name} {sha(name)}\n" for name in order))
    assert found.labels == sha("".join(f"{name} {digest_columns(dense, rows[name])}\n" for name in order))
    assert found.soft == sha("".join(f"{name} {digest_columns(soft, rows[name])}\n" for name in order))
    lines = [
        f"{name} {rows[name]} {sha(name)} {digest_columns(dense, rows[name])} {digest_columns(soft, rows[name])}\n"
        for name in order
    ]
    assert found.dataset == sha(f"ladd {classes_digest(CLASSES)}\n" + "".join(lines))


def test_absent_labels_have_no_digest_and_a_dash_in_the_line() -> None:
    meter = DigestMeter(CLASSES)
    meter.add("a", 1, sha("a"), {}, 0)
    found = meter.result()

    assert found.labels is None and found.soft is None
    assert found.dataset == sha(f"ladd {classes_digest(CLASSES)}\na 1 {sha('a')} - -\n")


def test_records_cost_less_than_250_bytes_of_memory_each() -> None:
    columns: Columns = {"dense_logits": np.zeros((1, 2), np.float16)}
    pixels = sha("")
    tracemalloc.start()
    meter = DigestMeter(CLASSES)
    for number in range(5000):
        meter.add(f"{number:06d}", 0, pixels, columns, 0)
    meter.result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 5000 * 250
