"""A dataset folder without the dense labels in its records: the same images, ids, hard and whole-image labels.

Where labels are made on the fly it is read so, and no stored label is decoded in vain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ladd_data.errors import Problem
from ladd_data.manifest_json import dump_manifest
from ladd_data.shards.folder import Folder
from ladd_data.shards.joined import RelabelledFolder
from ladd_data.shards.layout import Records, layout_of, pick


@dataclass(frozen=True, slots=True)
class BareFolder(RelabelledFolder):
    """A dataset folder whose dense labels are left out; `plain` is the folder with them."""

    def metadata(self) -> bytes:
        """Return the bytes that tell these files from others."""
        return self.plain.metadata() + b"without dense labels"

    def check(self, *, verify: bool) -> list[Problem]:
        """Compare the shards with the shard list and the manifest."""
        return self.plain.check(verify=verify)

    def with_labels(self, first: int, records: Records) -> Records:
        """Return records without dense labels."""
        return replace(records, dense=pick(records.dense, ("soft_",)))


def without_labels(folder: Folder) -> Folder:
    """Return a folder without its dense labels; one that has none, as it is."""
    if folder.manifest.labels is None:
        return folder
    manifest = folder.manifest.model_copy(update={"labels": None})
    parts = (folder.path, manifest, layout_of(manifest), folder.edition, folder.shards, dump_manifest(manifest))
    return BareFolder(*parts, plain=folder)
