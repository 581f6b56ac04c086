"""The three files beside meta/ and data/, written: README.md, samples.png and croissant.json."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from ladd_data.card.body import SNIPPETS, escape, write_body
from ladd_data.card.croissant import CROISSANT_PATH, describe_croissant
from ladd_data.card.header import CARD_PATH, Config, card_header, dump_header, records_config
from ladd_data.card.picture import PICTURE_PATH, Picture, draw_samples, say_picture
from ladd_data.card.sections import make_section, put_section, read_sections, split_card, write_sections
from ladd_data.card.snippets import write_snippets
from ladd_data.files import canonical_json, sha256_file, write_atomically, write_synced
from ladd_data.manifest import MANIFEST_PATH
from ladd_data.shards.folder import Folder


def write_face(folder: Folder, data_bytes: int, more: Sequence[Config] = ()) -> None:
    """Write card, picture and Croissant metadata beside finished shards and metadata.

    Args:
        folder: the dataset, all of it but these files.
        data_bytes: of the records in memory, for the card.
        more: further tables of the repository.

    Raises:
        DatasetError: a shard cannot be read.
    """
    picture = draw_samples(folder)
    if picture is not None:
        write_synced(folder.path / PICTURE_PATH, picture.file)
    write_synced(folder.path / CROISSANT_PATH, make_croissant(folder))
    write_synced(folder.path / CARD_PATH, make_card(folder, data_bytes, picture, more).encode())


def make_card(folder: Folder, data_bytes: int, picture: Picture | None = None, more: Sequence[Config] = ()) -> str:
    """Return the text of README.md; the arguments are as in `write_face`."""
    size = sum(shard.bytes for shard in folder.shards)
    records = records_config(folder.manifest, folder.edition, data_bytes, size)
    shown = []
    if picture is not None:
        said = escape(say_picture(folder.manifest, picture), 2000)
        shown = [f"![Samples of the images]({PICTURE_PATH})", "", said, ""]
    sections = write_body(folder.manifest, folder.edition, folder.column_bytes(), None, shown)
    return f"{dump_header(card_header(folder.manifest, [records, *more]))}\n{write_sections(sections)}"


def make_croissant(folder: Folder, repo: str | None = None) -> bytes:
    """Return the bytes of croissant.json; `repo`: "user/name" on the Hub, where it has one."""
    sums = {MANIFEST_PATH: hashlib.sha256(folder.content).hexdigest()}
    if (folder.path / PICTURE_PATH).is_file():
        sums[PICTURE_PATH] = sha256_file(folder.path / PICTURE_PATH)
    return canonical_json(describe_croissant(folder.manifest, folder.edition, folder.shards, sums, repo))


def name_repo(folder: Folder, repo: str) -> dict[str, bytes]:
    """Return the files that name the repository, as they are when it is `repo`: the code in the card, and Croissant.

    Only what the tools made is touched; a file that is not there is left out.
    """
    files = {}
    card = folder.path / CARD_PATH
    if card.is_file():
        lines = write_snippets(folder.manifest, folder.edition, repo)
        text = card.read_text(encoding="utf-8")
        titles = [section.heading for section in read_sections(split_card(text)[1]) if section.made]
        if f"## {SNIPPETS}" in titles:
            files[CARD_PATH] = put_section(text, make_section(SNIPPETS, lines)).encode()
    if (folder.path / CROISSANT_PATH).is_file():
        files[CROISSANT_PATH] = make_croissant(folder, repo)
    return files


def write_repo_name(folder: Folder, repo: str) -> None:
    """Write what `name_repo` returns, where it differs, so that folder and repository stay equal.

    A folder that may not be written stays as it is: then the copy on the Hub alone names itself.
    """
    for name, data in name_repo(folder, repo).items():
        if (folder.path / name).read_bytes() != data:
            with suppress(OSError):
                write_atomically(folder.path / name, data)
