"""The same records in another edition: Parquet for the Hub, tar for streaming, Arrow for one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ladd_data.dataset import Dataset
from ladd_data.digests import Digests
from ladd_data.errors import DatasetError, Problem
from ladd_data.label_writer import copy_label_sets
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.shards.editions import find_container
from ladd_data.shards.joined import check_label_sets, set_of
from ladd_data.shards.layout import Records
from ladd_data.types import U8, Edition
from ladd_data.writer import new_dataset


def export_dataset(
    dataset: Dataset,
    edition: Edition,
    target: Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write a dataset's records, in their order, as another edition; the manifest stays as it is, byte for byte.

    Label sets come along as they are; a dataset that was opened with one gets its labels into the records, alone.

    Memory is bounded by a row group, not by the dataset. PNG files are copied where both editions hold
    them; from pixels they are made anew, in the manifest's kind. JPEG files are always copied.

    Args:
        dataset: the source, of any edition.
        edition: what to write; the source's own is allowed.
        target: the folder to write; appears whole or not at all.
        overwrite: replace the target.
        on_progress: told (records done, records in all).

    Returns:
        The manifest.

    Raises:
        DatasetError: the records are not those the manifest states.
        LaddError: an id cannot stand in that edition.
        UsageError: the target exists.
    """
    folder, manifest, count = dataset.folder, dataset.manifest, len(dataset)
    content, carries = folder.content, set_of(folder) is None
    if carries:
        check_label_sets(folder)
    with new_dataset(target, manifest.classes, folder.layout, count, edition=edition, overwrite=overwrite) as writer:
        done = 0
        for records, pixels in _parts(dataset, edition):
            writer.add(records, pixels)
            done += len(records)
            on_progress(done, count)
        _check_digests(writer.digests(), manifest)
        writer.seal(manifest, content)
        if carries:
            copy_label_sets(folder, writer.folder)
    return manifest


def _parts(dataset: Dataset, edition: Edition) -> Iterator[tuple[Records, U8 | None]]:
    """Yield records and their pixels, or none where nobody asks for those of JPEG files."""
    if dataset.folder.layout.png is None and not find_container(edition).HOLDS_PIXELS:
        yield from ((records, None) for _, _, records in dataset.folder.records())
    else:
        yield from ((records, pixels) for _, _, records, pixels in dataset.decoded())


def _check_digests(found: Digests, manifest: Manifest) -> None:
    stated = manifest.labels.digest if manifest.labels else None
    problems = [
        Problem(clause, f"{MANIFEST_PATH}, {what}", f"records of digest {ours}", str(theirs), 'See "ladd validate".')
        for clause, what, ours, theirs in (
            ("LADD-025", "images.digest", found.images, manifest.images.digest),
            ("LADD-034", "labels.digest", found.labels, stated),
            ("LADD-039", "soft.digest", found.soft, manifest.soft.digest if manifest.soft else None),
            ("LADD-026", "digest", found.dataset, manifest.digest),
        )
        if ours != theirs
    ]
    if problems:
        raise DatasetError(problems)
