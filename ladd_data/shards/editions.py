"""The editions by name: which container a dataset's shards are."""

from __future__ import annotations

from typing import get_args

from ladd_data.shards import arrow, parquet, webdataset
from ladd_data.shards.container import Container
from ladd_data.types import Edition

EDITIONS: tuple[Edition, ...] = get_args(Edition)

_CONTAINERS: dict[Edition, Container] = {"parquet": parquet, "webdataset": webdataset, "arrow": arrow}


def find_container(edition: Edition) -> Container:
    """Return the container of an edition."""
    return _CONTAINERS[edition]
