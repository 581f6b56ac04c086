"""The ledger: what a dataset's images, labels and metadata cost in bytes, and the labels in operations.

Three ways to count. `raw`: uint8 pixels and label values as they are, the paper's yardstick. `zip`: the
same through Deflate, as the paper counts (Sec. 4.2). `stored`: the bytes in this folder's files.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladd_data.card.croissant import CROISSANT_PATH
from ladd_data.card.header import CARD_PATH
from ladd_data.card.picture import PICTURE_PATH
from ladd_data.manifest import MANIFEST_PATH, RUN_PATH
from ladd_data.shards.folder import SHARDS_PATH, Folder
from ladd_data.shards.images import decode_image
from ladd_data.shards.joined import JoinedFolder
from ladd_data.shards.projectors import ProjectorFiles, list_projectors, open_projector
from ladd_data.types import TYPE_BYTES

ZIP_SAMPLE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes of the parts under one way of counting."""

    images: int
    dense_labels: int

    @property
    def overhead(self) -> float:
        """Dense labels as a share of the images."""
        return self.dense_labels / self.images if self.images else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        share = 100 * self.overhead
        return {"images": self.images, "dense_labels": self.dense_labels, "percent_of_images": share}


@dataclass(frozen=True, slots=True)
class ProjectorBytes:
    """Bytes of a projector, the label set `name`: its files in the folder, and public files that it needs beside."""

    name: str
    stored: int
    public: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"name": self.name, "stored": self.stored, "with_public_files": self.stored + self.public}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a dataset costs.

    hard_labels, views, metadata: bytes of the hard labels (stored), of the views' description (a grid
    needs none per record) and of README.md with its picture, croissant.json,
    meta/ and the shards' footers. projectors: the label sets that are networks.
    zipped_records: how many records the zip column was measured on; its figures are scaled to all.
    """

    records: int
    raw: Counted
    zip: Counted
    stored: Counted
    zipped_records: int
    hard_labels: int
    views: int
    metadata: int
    files: int
    labeling_flops: int | None
    training_flops: int | None
    projectors: tuple[ProjectorBytes, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "records": self.records,
            "raw": self.raw.as_dict(),
            "zip": {**self.zip.as_dict(), "measured_on_records": self.zipped_records},
            "stored": {
                **self.stored.as_dict(),
                "percent_of_raw_images": 100 * self.stored.dense_labels / self.raw.images,
            },
            "hard_labels": self.hard_labels,
            "views": self.views,
            "metadata": self.metadata,
            "files": self.files,
            "labeling_flops": self.labeling_flops,
            "labeler_training_flops": self.training_flops,
            "projectors": [projector.as_dict() for projector in self.projectors],
        }


def count_ledger(folder: Folder, zip_bytes: int = ZIP_SAMPLE_BYTES) -> Ledger:
    """Count a dataset's bytes: raw from the manifest, stored from the files, zip by zipping records.

    Args:
        folder: the dataset.
        zip_bytes: zip is measured on at most this many raw bytes of images, from the first records on.
    """
    images, labels = folder.manifest.images, folder.manifest.labels
    pixels = images.channels * images.height * images.width
    columns = folder.column_bytes()
    other = folder.other_bytes() if isinstance(folder, JoinedFolder) else 0
    stored = Counted(
        columns["image"] + columns.get("image_file", 0),
        sum(size for name, size in columns.items() if name.startswith("dense_")),
    )
    files = sum(path.stat().st_size for path in list_files(folder))
    zipped, measured = _count_zip(folder, max(1, zip_bytes // pixels))
    labelers = labels.labelers if labels else ()
    training = [labeler.training_flops for labeler in labelers if labeler.training_flops is not None]
    return Ledger(
        records=images.count,
        raw=count_raw(folder),
        zip=zipped,
        stored=stored,
        zipped_records=measured,
        hard_labels=columns["label"],
        views=sum(size for name, size in columns.items() if name.startswith("view_")),
        metadata=files - sum(columns.values()) - other,
        files=files,
        labeling_flops=sum(labeler.labeling_flops for labeler in labelers) if labelers else None,
        training_flops=sum(training) if training else None,
        projectors=tuple(count_projector(open_projector(folder, name)) for name in list_projectors(folder.path)),
    )


def count_projector(files: ProjectorFiles) -> ProjectorBytes:
    """Return the bytes of a projector, from its statement."""
    return ProjectorBytes(files.name, files.bytes, files.statement.public_bytes)


def count_raw(folder: Folder) -> Counted:
    """Return the bytes of pixels and label values as they are, from the manifest alone."""
    images = folder.manifest.images
    pixels = images.channels * images.height * images.width
    per_record = sum(math.prod(shape) * TYPE_BYTES[kind] for shape, kind in folder.layout.dense.values())
    return Counted(images.count * pixels, images.count * per_record)


def list_files(folder: Folder) -> list[Path]:
    """Return the files that make a dataset, further label sets aside: metadata, card, picture and shards."""
    about = [CARD_PATH, PICTURE_PATH, CROISSANT_PATH, MANIFEST_PATH, SHARDS_PATH, RUN_PATH]
    return [path for name in about if (path := folder.path / name).is_file()] + folder.files()


def _count_zip(folder: Folder, limit: int) -> tuple[Counted, int]:
    """Zip the first records' pixels and labels, and scale to all records."""
    images = folder.manifest.images
    pixels: list[bytes] = []
    dense: list[bytes] = []
    for _, _, records in folder.records():
        for row in range(min(len(records), limit - len(pixels))):
            pixels.append(decode_image(records.images, row, folder.layout).tobytes())
            dense += [values[row].tobytes() for values in records.dense.values()]
        if len(pixels) >= limit:
            break
    measured = len(pixels)
    scale = images.count / measured
    return Counted(round(_zip_bytes(pixels) * scale), round(_zip_bytes(dense) * scale)), measured


def _zip_bytes(parts: Iterable[bytes]) -> int:
    """Return the Deflate size of the parts joined, by Python's zipfile with its default level."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b"".join(parts))
    with zipfile.ZipFile(buffer) as archive:
        return archive.getinfo("data").compress_size
