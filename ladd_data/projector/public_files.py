"""The public files that a projector is built upon: from the set, from a path, or from the Hub; the digest decides."""

from __future__ import annotations

from pathlib import Path

from ladd_data.errors import LabelError, UsageError
from ladd_data.files import sha256_file
from ladd_data.manifest_projector import PublicFile
from ladd_data.remote import hub_errors, quietly


def find_public(stated: PublicFile, given: Path | None, kept: Path, option: str, what: str) -> Path:
    """Return where a public file is, with the digest that the projector states.

    Args:
        stated: what the projector says of it.
        given: where the user says it is.
        kept: where it is if the set holds it.
        option: the argument that `given` came by, for messages.
        what: the file in words, as "the backbone's weights".

    Raises:
        UsageError: it is nowhere; says how to give it.
        LabelError: it is another file than the one that the projector was trained upon.
        LaddError: it cannot be downloaded.
    """
    if given is not None:
        return _checked(given, stated, f"{given}", f"Give the file that the projector was trained upon: {option}.")
    if stated.kept:
        return _checked(kept, stated, f"{kept}", "Download the label set again.")
    if stated.reference is None:
        raise UsageError(
            f"{what}: a file {stated.file} of {stated.bytes:,} bytes, SHA-256 {stated.sha256}, which is neither in the "
            f"label set nor on the Hub. Say where it is: {option}."
        )
    return _checked(
        download_public(stated.reference, stated.revision, stated.file),
        stated,
        f"{stated.file} of {stated.reference}",
        f"It was changed where it is published. If you have the file that it was: {option}.",
    )


def download_public(reference: str, revision: str | None, file: str) -> Path:
    """Return a file of a model repository of the Hub, downloaded into huggingface_hub's cache if it is not there.

    Raises:
        LaddError: it is not there, or the Hub cannot be reached and the cache does not have it.
    """
    from huggingface_hub import hf_hub_download

    with hub_errors(reference, revision), quietly(unless_seen=True):
        return Path(hf_hub_download(reference, file, revision=revision))


def describe_public(path: Path, *, kept: bool, reference: str | None = None, revision: str | None = None) -> PublicFile:
    """Return what a projector says of a public file.

    Raises:
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    name = path.name if path.name.endswith(".safetensors") and path.name[0].isalnum() else "model.safetensors"
    size, digest = path.stat().st_size, sha256_file(path)
    return PublicFile(reference=reference, revision=revision, file=name, bytes=size, sha256=digest, kept=kept)


def _checked(path: Path, stated: PublicFile, name: str, advice: str) -> Path:
    if not path.is_file():
        raise UsageError(f"{name}: no such file. {advice}")
    size = path.stat().st_size
    if size != stated.bytes or sha256_file(path) != stated.sha256:
        found = f"{size:,} bytes" if size != stated.bytes else "another SHA-256"
        expected = f"{stated.bytes:,} bytes of SHA-256 {stated.sha256}"
        raise LabelError(f"{name}: {found}; expected {expected}. {advice}")
    return path
