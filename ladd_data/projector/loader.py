"""Batches whose dense labels a projector makes: any loader of the images, and the network behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from ladd_data.loaders.loader import Loader
from ladd_data.loaders.schedule import Slots
from ladd_data.types import Batch


class OnlineLoader(Loader):
    """Yields the batches of another loader with labels that are computed where they are."""

    def __init__(self, images: Loader, label: Callable[[Batch, Slots], Batch], digest: str) -> None:
        """Begin at epoch 0.

        Args:
            images: yields the batches, without dense labels.
            label: gives a batch its labels.
            digest: of images and projector; a state of others is refused.
        """
        super().__init__(images.schedule, digest, images.placement)
        self._images, self._label = images, label

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        taken: deque[Slots] = deque()  # the other loader may take steps ahead, in a thread of its own

        def note() -> Iterator[Slots]:
            for slots in steps:
                taken.append(slots)
                yield slots

        with closing(self._images._batches(note())) as batches:
            for batch in batches:
                yield self._label(batch, taken.popleft())
