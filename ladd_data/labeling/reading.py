"""The records to be labelled, read and decoded ahead of the device that labels them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.labeling.pipeline import Chunk
from ladd_data.shards.container import join_records
from ladd_data.shards.layout import Records
from ladd_data.types import U8, Columns

CHUNKS_AHEAD = 16
_T = TypeVar("_T")


def read_chunks(
    dataset: Dataset, spans: Iterable[range], at_once: int, boxes: Callable[[int, int], Columns]
) -> Iterator[Chunk]:
    """Yield the records of some spans of record numbers, decoded.

    Each span begins a chunk, so that a chunk's content depends on its span alone.

    Args:
        dataset: where they come from.
        spans: of record numbers.
        at_once: records a chunk; fewer at the end of a span.
        boxes: returns the view columns of (first record, number of records).
    """
    for span in spans:
        first, parts, pixels = span.start, list[Records](), list[U8]()
        for shard, records in dataset.read(span.start, span.stop):
            at = 0
            while at < len(records):
                part = records.slice(at, at + at_once - sum(map(len, parts)))
                parts.append(part)
                pixels.append(dataset.decode(part, shard))
                at += len(part)
                count = sum(map(len, parts))
                if count == at_once or first + count == span.stop:
                    joined = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
                    yield Chunk(join_records(parts), joined, boxes(first, count), first)
                    first, parts, pixels = first + count, [], []


def ahead(items: Iterable[_T], depth: int = CHUNKS_AHEAD) -> Generator[_T]:
    """Yield items that a thread of its own produces, up to `depth` of them in advance."""
    line: queue.Queue[tuple[_T | None, BaseException | None, bool]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[_T | None, BaseException | None, bool]) -> None:
        while not stopped.is_set():
            try:
                line.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put((item, None, False))
                if stopped.is_set():
                    return
            put((None, None, True))
        except BaseException as error:
            put((None, error, True))

    thread = threading.Thread(target=produce, name="decode ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = line.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
