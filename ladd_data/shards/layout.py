"""The columns of a dataset: one description, from which Arrow schema, footer key and card are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ladd_data.encodings import FloatArray, dense_columns
from ladd_data.manifest import Manifest
from ladd_data.types import I64

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Class names, and the dense columns as name -> (shape per record, dtype)."""

    classes: tuple[str, ...]
    dense: dict[str, tuple[tuple[int, ...], str]]

    @property
    def column_names(self) -> list[str]:
        """All columns in file order."""
        return ["image", "label", "id", *self.dense]


@dataclass(slots=True)
class Records:
    """Some records in the form they have on disk.

    ids: their names; labels: int64 [n]; images: n PNG files; dense: column name -> array [n, ...].
    """

    ids: list[str]
    labels: I64
    images: list[bytes]
    dense: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> Records:
        """Return records start .. stop-1."""
        dense = {name: values[start:stop] for name, values in self.dense.items()}
        return Records(self.ids[start:stop], self.labels[start:stop], self.images[start:stop], dense)


def layout_of(manifest: Manifest) -> Layout:
    """Return the columns that a dataset with this manifest has."""
    names, labels = manifest.classes.names, manifest.labels
    if labels is None:
        return Layout(names, {})
    return Layout(names, dense_columns(labels.space, labels.dtype, labels.count, len(names), logz=labels.logz))


def arrow_schema(layout: Layout) -> pa.Schema:
    """Return the Arrow schema.

    Every field stays nullable although no value may be null: `datasets` drops the footer's features
    (no picture, no class names) when a field is marked required. Measured with datasets 5.2.
    """
    fields = [
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("label", pa.int64()),
        pa.field("id", pa.string()),
    ]
    for name, (shape, dtype) in layout.dense.items():
        kind: pa.DataType = pa.float16() if dtype == "float16" else pa.float32()
        for length in reversed(shape):
            kind = pa.list_(kind, length)
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def footer_features(layout: Layout) -> dict[str, Any]:
    """Return the value of the footer key `huggingface`: what makes `load_dataset` show pictures and names."""
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(layout.classes), "_type": "ClassLabel"},
        "id": {"dtype": "string", "_type": "Value"},
    }
    for name, (shape, dtype) in layout.dense.items():
        feature: dict[str, Any] = {"dtype": dtype, "_type": "Value"}
        for length in reversed(shape):
            feature = {"feature": feature, "length": length, "_type": "List"}
        features[name] = feature
    return {"info": {"features": features}}


def card_features(layout: Layout) -> list[dict[str, Any]]:
    """Return `dataset_info.features` of the card, in the form the Hub's YAML has."""
    names = {str(index): name for index, name in enumerate(layout.classes)}
    features: list[dict[str, Any]] = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
        {"name": "id", "dtype": "string"},
    ]
    for name, (shape, dtype) in layout.dense.items():
        feature: Any = dtype
        for length in reversed(shape):
            feature = {"list": feature, "length": length}
        features.append({"name": name, **feature})
    return features
