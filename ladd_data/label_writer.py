"""A label set, written: labels in, then shards, list and statement; whole or not at all, nothing else changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ladd_data.card.sets import offer_sets
from ladd_data.digests import DigestMeter
from ladd_data.errors import LabelError, UsageError
from ladd_data.files import canonical_json, new_folder, write_synced
from ladd_data.manifest import SPEC_VERSION, Labels, LabelSet, Manifest, classes_digest
from ladd_data.manifest_json import dump_label_set, join_label_set
from ladd_data.new_files import HashingFile
from ladd_data.recipe import Recipe
from ladd_data.shards.container import FEATURES_KEY, compact_json
from ladd_data.shards.folder import Folder, read_metadata
from ladd_data.shards.images import digest_image
from ladd_data.shards.label_sets import (
    LABELS_FOLDER,
    LISTING,
    STATEMENT,
    LabelShard,
    LabelShardList,
    is_set_name,
    label_features,
    label_schema,
    list_sets,
    list_whole_sets,
)
from ladd_data.shards.layout import Records, label_columns
from ladd_data.shards.parquet import ParquetFiles
from ladd_data.shards.plan import ShardPlan, plan_shards
from ladd_data.shards.projectors import list_projectors, list_whole_projectors
from ladd_data.shards.tables import leaf_paths, to_array
from ladd_data.types import TYPE_BYTES, Columns, ColumnTypes

_ID_BYTES = 64


def plan_labels(count: int, columns: ColumnTypes) -> ShardPlan:
    """Return the one cut of a set's records into shards and row groups."""
    size = sum(int(np.prod(shape)) * TYPE_BYTES[dtype] for shape, dtype in columns.values())
    return plan_shards(count, _ID_BYTES + size)


class LabelShardWriter(ParquetFiles):
    """Writes a set's shards into its folder; `seal` adds their footers."""

    def __init__(self, folder: Path, columns: ColumnTypes, plan: ShardPlan) -> None:
        """Open nothing yet."""
        super().__init__(folder, plan)
        self._columns = columns
        self._schema = label_schema(columns).with_metadata({FEATURES_KEY: compact_json(label_features(columns))})

    def add_labels(self, ids: Sequence[str], columns: Columns) -> None:
        """Append records' labels, columns [n, ...]."""
        dense = {name: columns[name] for name in self._columns}
        self.add(Records(list(ids), np.zeros(len(ids), np.int64), [b""] * len(ids), dense))

    def seal(self, statement: LabelSet) -> None:
        """Finish the shards, and write the list and the statement."""
        content = dump_label_set(statement)
        labels, digest = json.loads(content), hashlib.sha256(content).hexdigest()
        shards = []
        for index in range(self._plan.shards):
            place = self._plan.place(index)
            head = {"spec_version": statement.spec_version, "shard": place, "labels_sha256": digest, "labels": labels}
            path = self._path(index)
            self._finish(index, path, compact_json(head))
            size, rows = path.stat().st_size, self._plan.rows(index)
            shards.append(LabelShard(path=path.name, bytes=size, sha256=self.digest(index), rows=rows))
        listing = LabelShardList(spec_version=statement.spec_version, shards=tuple(shards))
        write_synced(self._folder / LISTING, canonical_json(listing.model_dump(mode="json")))
        write_synced(self._folder / STATEMENT, content)

    def _path(self, index: int) -> Path:
        return self._folder / Path(self._plan.path(index, self._suffix)).name

    def _begin(self, path: Path) -> None:
        leaves = leaf_paths(self._schema)
        split = {leaf: "BYTE_STREAM_SPLIT" for leaf in leaves if self._is_float32(leaf)}
        file = HashingFile(path)
        options = {"compression": "ZSTD", "use_dictionary": False, "column_encoding": split or None}
        checks = {"write_page_index": True, "write_page_checksum": True, "use_content_defined_chunking": True}
        self._writers.append(pq.ParquetWriter(file, self._schema, **options, **checks))
        self._files.append(file)

    def _is_float32(self, leaf: str) -> bool:
        return self._columns.get(leaf.split(".")[0], ((), ""))[1] == "float32"

    def _write(self, group: Records) -> None:
        columns = [to_array(values, self._schema.field(name).type) for name, values in group.dense.items()]
        table = pa.table([pa.array(group.ids, pa.string()), *columns], schema=self._schema)
        self._writers[-1].write_table(table, row_group_size=len(group))


class LabelSetWriter:
    """Collects the labels of a set, record by record in the dataset's order. Made by `new_label_set`."""

    def __init__(self, source: Folder, target: Path, name: str, columns: ColumnTypes) -> None:
        """Plan the shards inside an empty folder."""
        self._source, self._name, self._columns = source, name, columns
        self._records = (records for _, _, records in source.records())
        self._left: Records | None = None
        self._digests = DigestMeter(source.manifest.classes)
        self.shards = LabelShardWriter(target, columns, plan_labels(source.manifest.images.count, columns))

    def add(self, columns: Columns) -> None:
        """Append the labels of the next records: columns of the set's types, each [n, ...]."""
        rows = len(next(iter(columns.values())))
        for name, (shape, dtype) in self._columns.items():
            found, wanted = columns[name], np.dtype("uint8" if dtype == "bytes" else dtype)
            if found.shape != (rows, *shape) or found.dtype != wanted:
                raise LabelError(f"{name}: {found.dtype} {list(found.shape)}; expected {wanted} {[rows, *shape]}.")
        at = 0
        while at < rows:
            records = self._next()
            taken = min(len(records), rows - at)
            self._add(records.slice(0, taken), {name: columns[name][at : at + taken] for name in self._columns})
            self._left = records.slice(taken, len(records)) if taken < len(records) else None
            at += taken

    def finish(self, labels: Labels, recipe: Recipe) -> LabelSet:
        """Write the shards' footers, the list and the statement.

        Args:
            labels: what to say of the labels; its digest is filled in.
            recipe: what they are meant for.

        Raises:
            LabelError: records are missing, or are not those of the manifest.
            DatasetError: the fields contradict each other or the dataset's.
        """
        manifest, digests = self._source.manifest, self._digests.result()
        if self._left is not None or next(self._records, None) is not None:
            raise LabelError(f"label set {self._name}: has fewer records than the {manifest.images.count} images.")
        if digests.images != manifest.images.digest:
            raise LabelError(
                f"images of digest {digests.images}; expected {manifest.images.digest}, as the manifest says."
            )
        described = labels.model_copy(update={"digest": digests.labels or ""})
        changed = {"labels": described, "recipe": recipe, "digest": digests.dataset}
        statement = state_set(manifest.model_copy(update=changed), self._name)
        if label_columns(join_label_set(manifest, statement, self._name)) != self._columns:
            raise LabelError(f"label set {self._name}: columns other than what its views and coding say.")
        self.shards.seal(statement)
        return statement

    def _next(self) -> Records:
        records = self._left or next(self._records, None)
        if records is None:
            raise LabelError(f"label set {self._name}: more records than the dataset has.")
        return records

    def _add(self, records: Records, columns: Columns) -> None:
        joined = {name: values for name, values in records.dense.items() if name.startswith("soft_")} | columns
        for row, (name, label) in enumerate(zip(records.ids, records.labels.tolist(), strict=True)):
            image = digest_image(records.images, row, None, self._source.layout)
            self._digests.add(name, label, image, joined, row)
        self.shards.add_labels(records.ids, columns)


def state_set(joined: Manifest, name: str) -> LabelSet:
    """Return what a set says of itself; `joined`: the manifest with its labels in the place of the dataset's own."""
    if joined.labels is None:
        raise LabelError(f"label set {name}: no labels.")
    return LabelSet(
        spec_version=SPEC_VERSION,
        name=name,
        count=joined.images.count,
        images=joined.images.digest,
        classes=classes_digest(joined.classes),
        labels=joined.labels,
        recipe=joined.recipe,
        digest=joined.digest,
    )


@contextmanager
def new_label_set(
    source: Folder, name: str, columns: ColumnTypes, *, overwrite: bool = False
) -> Iterator[LabelSetWriter]:
    """Open a writer for a label set that appears in a dataset folder, and on its card, when the block ends well.

    Args:
        source: the dataset's folder, verified; nothing in it but its card changes.
        name: of the set.
        columns: the label columns (`view_columns` and `column_types`).
        overwrite: replace the set if it is there.

    Raises:
        UsageError: the name is none, the set is there already, or another run is writing it.
    """
    with new_set_folder(source, name, overwrite=overwrite) as folder:
        writer = LabelSetWriter(source, folder, name, columns)
        try:
            yield writer
        except BaseException:
            writer.shards.abort()
            raise


@contextmanager
def new_set_folder(
    source: Folder, name: str, *, overwrite: bool = False, after: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield an empty folder that becomes `labels/NAME` of a dataset; the card offers it then.

    Raises:
        UsageError: see `new_label_set`.
    """
    target = place_of_set(source.path, name)
    offer_sets(source)  # what a run that was killed at the last step has left out
    with new_folder(target, overwrite=overwrite, after=after, marker=STATEMENT, option="--as") as folder:
        yield folder
    offer_sets(source)


def place_of_set(path: Path, name: str) -> Path:
    """Return the folder of a label set.

    Raises:
        UsageError: a set cannot be called so.
    """
    if not is_set_name(name):
        raise UsageError(
            f'label set "{name}": expected 1 to 64 letters, digits, "_" and "-", the first one a letter or digit; '
            'and not "default", the labels in the records.'
        )
    return path / LABELS_FOLDER / name


def remove_set(source: Folder, name: str) -> None:
    """Take a label set out of a dataset folder: off the card first, then away.

    Raises:
        UsageError: there is no such set.
    """
    if name not in [*list_sets(source.path), *list_projectors(source.path)]:
        raise UsageError(f'{source.path}: no label set "{name}". "ladd labels DIR" lists those there are.')
    offer_sets(source, without=name)
    home = source.path / LABELS_FOLDER
    gone = home / f".{name}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    (home / name).rename(gone)
    shutil.rmtree(gone)
    if not any(home.iterdir()):
        home.rmdir()


def copy_label_sets(source: Folder, target: Path, *, but: str | None = None) -> None:
    """Copy label sets, byte for byte, into a finished folder of the same records, and name them on its card.

    Sets that were not downloaded (`list_whole_sets`) stay behind.

    Args:
        source: the dataset they are of, joined with one of them or not.
        target: the folder.
        but: a set that stays behind, too.
    """
    for name in [*list_whole_sets(source.path), *list_whole_projectors(source.path)]:
        if name != but:
            place = target / LABELS_FOLDER / name
            place.mkdir(parents=True)
            for path in sorted((source.path / LABELS_FOLDER / name).glob("[!.]*")):
                shutil.copyfile(path, place / path.name)
    offer_sets(read_metadata(target))
