"""Datasets as Hugging Face's `datasets` knows them: the same columns and features, whatever the edition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from ladd_data.shards.folder import Folder
from ladd_data.shards.joined import set_of
from ladd_data.shards.layout import Records, arrow_schema, footer_features
from ladd_data.shards.tables import to_batch

if TYPE_CHECKING:
    import datasets


def open_with_datasets(folder: Folder) -> datasets.Dataset:
    """Return a dataset's records; Parquet files are handed over as they are, all else is read into memory.

    Raises:
        DatasetError: a shard cannot be read; names it.
    """
    import datasets

    if folder.edition == "parquet" and set_of(folder) is None:
        return datasets.load_dataset(str(folder.path), split="train")
    features = datasets.Features.from_dict(footer_features(folder.layout)["info"]["features"])
    schema = arrow_schema(folder.layout)
    batches = [_to_batch(records, folder.layout.suffix, schema) for _, _, records in folder.records()]
    info = datasets.DatasetInfo(features=features)
    return datasets.Dataset(pa.Table.from_batches(batches, schema), info=info, split=datasets.Split.TRAIN)


def _to_batch(records: Records, suffix: str, schema: pa.Schema) -> pa.RecordBatch:
    files = pa.array(list(records.images), pa.binary())
    names = pa.array([f"{name}.{suffix}" for name in records.ids], pa.string())
    images = pa.StructArray.from_arrays([files, names], fields=list(schema.field("image").type))
    return to_batch(records, [images], schema)
