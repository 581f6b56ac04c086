"""Where the views of each record lie, and with what they are mixed: read once, checked before anything is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ladd_data.errors import DatasetError, Problem, say_place
from ladd_data.shards.folder import Folder, Shard
from ladd_data.shards.layout import pick
from ladd_data.types import I64, Columns
from ladd_data.views.checks import Misplaced, check_places
from ladd_data.views.mixing import VIEW_COLUMNS, MixTable, Pixels, order_of, place_views


class ViewPlaces:
    """The view columns of all records of a dataset, in memory."""

    def __init__(self, folder: Folder, pixels: Pixels) -> None:
        """Read the columns.

        Args:
            folder: verified.
            pixels: returns images by record number; asked only where views are mixed.

        Raises:
            DatasetError: a box does not lie in the image, or a partner is not there: nothing else keeps a wrong
                number from a device's memory.
        """
        self._folder = folder
        parts: list[Columns] = []
        self.ids: list[str] = []
        for _, _, records in folder.records():
            parts.append(pick(records.dense, VIEW_COLUMNS))
            self.ids += records.ids
        self.columns: Columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        images = folder.manifest.images
        for wrong in check_places(self.columns, images.count, images.height, images.width):
            raise DatasetError([self._blame(wrong)])
        self.table = MixTable(self.columns, order_of(self.ids), pixels)

    def of(
        self, rows: I64, views: Sequence[int] | None, device: torch.device, pixels: Pixels | None = None
    ) -> dict[str, Any]:
        """Return what a `ViewMaker` is told of some records.

        Args:
            rows: their numbers.
            views: numbers of the views wanted; None for all.
            device: of their images.
            pixels: returns images in place of those that this was made with.
        """
        given = {name: values[rows] for name, values in self.columns.items()}
        wanted = range(given["view_box"].shape[1]) if views is None else views
        table = self.table if pixels is None else MixTable(self.table.columns, self.table.order, pixels)
        return place_views(given, wanted, device, table)

    def _blame(self, wrong: Misplaced) -> Problem:
        row, shards = wrong.row, list[Shard](self._folder.shards)
        while row >= shards[0].rows:
            row -= shards.pop(0).rows
        name = self.ids[wrong.row]
        where = f"{say_place(shards[0].path, row, name)}, {wrong.column}, view {wrong.view}"
        return Problem(wrong.clause, where, wrong.found, wrong.expected, "Download the dataset again.", row, name)
