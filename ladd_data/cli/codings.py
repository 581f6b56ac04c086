"""What `label` and `reencode` share: turning --profile or --encoding into a coding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.manifest import Coding
    from ladd_data.shards.folder import Folder


def choose_coding(
    folder: Folder, views: int, profile: str | None, encoding: str | None, top_k: int | None, logz: bool
) -> tuple[Coding, str | None]:
    """Return the coding asked for, and the profile's name if it was asked for by profile.

    Raises:
        UsageError: both were given, a name is not known, or --top-k does not fit.
    """
    from ladd_data.encodings.profiles import Budget, coding_of_encoding, coding_of_profile

    classes = len(folder.layout.classes)
    if encoding is not None:
        if profile is not None:
            raise UsageError("--profile and --encoding exclude each other: give one.")
        return coding_of_encoding(encoding, classes, k=top_k, logz=logz), None
    if top_k is not None or not logz:
        raise UsageError("--top-k and --no-logz go with --encoding, not with a profile.")
    name = profile or "default"
    image_bytes = folder.column_bytes()["image"] / folder.manifest.images.count
    return coding_of_profile(name, Budget(classes, views, image_bytes)), name
