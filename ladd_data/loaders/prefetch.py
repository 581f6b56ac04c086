"""The next batch is made while the last one is used: one thread, which ends with the pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def make_ahead(
    make: Callable[[S], T], steps: Iterator[S], depth: int = 1, stop: Callable[[], None] | None = None
) -> Generator[T, None, None]:
    """Yield `make(step)` of each step in order, made in a thread, at most `depth` ahead of what was asked for.

    An error of `make` is raised where its result is due. Closing the generator, as leaving a loop does, waits
    for the call under way, which `stop`, where given, tells to give up; no thread stays.
    """
    with ThreadPoolExecutor(1, "ladd-prefetch") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if stop is not None:
                stop()
            pool.shutdown(cancel_futures=True)
