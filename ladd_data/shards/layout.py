"""The columns of a dataset: one description, from which Arrow schema, footer key and card are made."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ladd_data.encodings.coding import column_types
from ladd_data.manifest import ByRecord, Manifest, Mix, ViewSpec, count_views
from ladd_data.png import PngKind
from ladd_data.types import I64, TYPE_BYTES, Columns, ColumnTypes

JPEG_ROOM = 16384
"""A quarter of what a JPEG may have beyond its pixels: so a row group of the largest ones keeps to LADD-082."""
ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Class names, the dense columns as name -> (shape per record, dtype), and what the images are.

    shape: channels, height and width of every image; png: how its pixels become a PNG file; None where
    images are JPEG files, which nobody makes from pixels.
    """

    classes: tuple[str, ...]
    dense: ColumnTypes
    shape: tuple[int, int, int]
    png: PngKind | None

    @property
    def suffix(self) -> str:
        """Of an image's file name: "png" or "jpg"."""
        return "png" if self.png else "jpg"

    @property
    def record_bytes(self) -> int:
        """Bytes of a record in memory: raw pixels, room for a JPEG file, label values, and 64 for the rest.

        The cut into shards and row groups follows from it, so it must not depend on how well the pixels
        of some edition compress: a dataset that went through other editions comes back byte by byte.
        """
        file = 0 if self.png else JPEG_ROOM
        labels = sum(math.prod(shape) * TYPE_BYTES[dtype] for shape, dtype in self.dense.values())
        return math.prod(self.shape) + file + 64 + labels

    @property
    def column_names(self) -> list[str]:
        """All columns in file order."""
        return ["image", "label", "id", *self.dense]


@dataclass(slots=True)
class Records:
    """Some records in the form they have on disk.

    ids: their names; labels: int64 [n]; images: n PNG or JPEG files; where the container holds pixels, with
    these (`PixelImages`), and PNG files made when asked for; dense: column name -> array [n, ...].
    """

    ids: list[str]
    labels: I64
    images: Sequence[bytes]
    dense: Columns

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> Records:
        """Return records start .. stop-1."""
        dense = {name: values[start:stop] for name, values in self.dense.items()}
        return Records(self.ids[start:stop], self.labels[start:stop], self.images[start:stop], dense)


def layout_of(manifest: Manifest) -> Layout:
    """Return the columns that a dataset with this manifest has."""
    names, labels, images = manifest.classes.names, manifest.labels, manifest.images
    columns: ColumnTypes = {}
    if manifest.soft is not None:
        columns[f"soft_{manifest.soft.space}"] = ((len(names),), "float32")
    if labels is not None:
        columns |= view_columns(labels.views, present=labels.present)
        columns |= column_types(labels.coding, labels.count, len(names))
    return Layout(names, columns, (images.channels, images.height, images.width), images.png)


def view_columns(views: ViewSpec, *, present: bool) -> ColumnTypes:
    """Return the columns that say, record by record, where its views lie and which there are."""
    count = count_views(views)
    columns: ColumnTypes = {}
    if isinstance(views, ByRecord):
        columns["view_box"] = ((count, 4), "uint16")
        if views.flip:
            columns["view_flip"] = ((count,), "bool")
    if isinstance(views, Mix):
        columns["view_partner"], columns["view_partner_view"] = ((count,), "uint32"), ((count,), "uint16")
        if views.cutmix:
            columns["view_mix_box"] = ((count, 4), "uint16")
        if views.mixup:
            columns["view_mix_lambda"] = ((count,), "float32")
    if present:
        columns["view_present"] = ((count,), "bool")
    return columns


def label_columns(manifest: Manifest) -> ColumnTypes:
    """Return the columns of dense labels, without the distiller's own whole-image label."""
    return {name: kind for name, kind in layout_of(manifest).dense.items() if not name.startswith("soft_")}


def pick(columns: Columns, prefixes: tuple[str, ...]) -> Columns:
    """Return the columns whose names begin with one of the prefixes, in order."""
    return {name: values for name, values in columns.items() if name.startswith(prefixes)}


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
        fields.append(pa.field(name, arrow_type(shape, dtype)))
    return pa.schema(fields)


_ARROW_TYPES = {
    "float16": pa.float16(),
    "float32": pa.float32(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "bool": pa.bool_(),
}


def arrow_type(shape: tuple[int, ...], dtype: str) -> pa.DataType:
    """Return the Arrow type of one record's values."""
    if dtype == "bytes":
        return pa.binary(shape[0])
    kind = _ARROW_TYPES[dtype]
    for length in reversed(shape):
        kind = pa.list_(kind, length)
    return kind


def footer_features(layout: Layout) -> dict[str, Any]:
    """Return the value of the footer key `huggingface`: what makes `load_dataset` show pictures and names."""
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(layout.classes), "_type": "ClassLabel"},
        "id": {"dtype": "string", "_type": "Value"},
    }
    return {"info": {"features": features | features_of(layout.dense)}}


def features_of(columns: ColumnTypes) -> dict[str, Any]:
    """Return the features of label columns, as the footer key `huggingface` has them."""
    features: dict[str, Any] = {}
    for name, (shape, dtype) in columns.items():
        value = f"fixed_size_binary[{shape[0]}]" if dtype == "bytes" else dtype
        feature: dict[str, Any] = {"dtype": value, "_type": "Value"}
        for length in reversed(shape if dtype != "bytes" else ()):
            feature = {"feature": feature, "length": length, "_type": "List"}
        features[name] = feature
    return features


def card_features(layout: Layout) -> list[dict[str, Any]]:
    """Return `dataset_info.features` of the card, in the form the Hub's YAML has."""
    names = {str(index): name for index, name in enumerate(layout.classes)}
    return [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
        {"name": "id", "dtype": "string"},
        *list_features(layout.dense),
    ]


def list_features(columns: ColumnTypes) -> list[dict[str, Any]]:
    """Return the features of label columns in the form the Hub's YAML has."""
    features: list[dict[str, Any]] = []
    for name, (shape, dtype) in columns.items():
        if dtype == "bytes":
            features.append({"name": name, "dtype": f"fixed_size_binary[{shape[0]}]"})
            continue
        feature: Any = dtype
        for length in reversed(shape):
            feature = {"list": feature, "length": length}
        features.append({"name": name, **feature})
    return features
