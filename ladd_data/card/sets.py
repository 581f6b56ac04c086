"""Label sets on the card: each a table of the repository that downloads alone, and a line of a section."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ladd_data.card.body import escape
from ladd_data.card.header import CARD_PATH, DEFAULT, Config, dump_header, find_info, read_card_header
from ladd_data.card.sections import make_section, put_section, take_section
from ladd_data.card.words import say_coding, size_of
from ladd_data.errors import DatasetError, LaddError, Problem
from ladd_data.files import write_atomically
from ladd_data.shards.folder import Folder
from ladd_data.shards.joined import JoinedFolder, open_label_set
from ladd_data.shards.label_sets import LABELS_FOLDER, list_sets
from ladd_data.shards.layout import list_features
from ladd_data.shards.projectors import ProjectorFiles, list_projectors, open_projector
from ladd_data.types import TYPE_BYTES
from ladd_data.views.geometry import say_views

SETS = "Label sets"
_ABOUT = "Further dense labels of the same images; row n of each is of record n. "
_WITH_DATASETS = (
    'With `datasets` alone, `load_dataset(..., "NAME")` downloads the ids and labels of a set and nothing else. '
)
_WITH_OURS = 'With `ladd-data`, `ladd.load(..., labels="NAME")` opens the images with them.'
_RECORDS = {"config_name": DEFAULT, "data_files": [{"split": "train", "path": "data/train-*"}]}


def offer_sets(source: Folder, *, without: str | None = None) -> None:
    """Write anew what the card says of label sets: `configs` and `dataset_info` (LADD-097), and a section.

    In other editions than Parquet a set is no configuration: `datasets` reads a repository as one kind of files. A set
    that cannot be read is left out.

    Args:
        source: the dataset's folder.
        without: a set that is going to be removed.

    Raises:
        DatasetError: there is no card, or it cannot be read.
    """
    path = source.path / CARD_PATH
    sets = [one for name in list_sets(source.path) if name != without and (one := _open(source, name))]
    try:
        text = path.read_text(encoding="utf-8")
        header = read_card_header(text)
    except (OSError, ValueError) as error:
        problem = Problem("LADD-050", CARD_PATH, str(error), "a dataset card", "Download the dataset again.")
        raise DatasetError([problem]) from error
    stated = state_configs(header, [config_of(one) for one in sets] if source.edition == "parquet" else [])
    card = text
    if any(header.get(key, _default(key)) != value for key, value in stated.items()):
        card = dump_header(header | stated) + text.split("---\n", 2)[2]
    alone = _WITH_DATASETS if source.edition == "parquet" else ""
    nets = [net for name in list_projectors(source.path) if name != without and (net := _open_net(source, name))]
    lines = [_ABOUT + alone + _WITH_OURS, "", *_table(sets)] if sets else []
    lines += [*([""] if sets else []), *_list_projectors(nets)] if nets else []
    card = put_section(card, make_section(SETS, lines)) if lines else take_section(card, SETS)
    if card != text:
        write_atomically(path, card.encode())


def state_configs(header: dict[str, Any], sets: Sequence[Config]) -> dict[str, Any]:
    """Return `configs` and `dataset_info` of a card that offers these sets beside the records.

    Args:
        header: of the card as it is; what it says of the records is kept.
        sets: the further tables.
    """
    stated: dict[str, Any] = {"configs": [_RECORDS, *(config.where() for config in sets)]}
    info = find_info(header)
    if isinstance(info, dict):
        own = {key: value for key, value in info.items() if key != "config_name"}
        more = [{"config_name": config.name, **config.info()} for config in sets]
        stated["dataset_info"] = [{"config_name": DEFAULT, **own}, *more] if more else own
    return stated


def config_of(joined: JoinedFolder) -> Config:
    """Return the table of a set: its ids and label columns, with their types."""
    files = joined.labels
    of_one = sum(math.prod(shape) * TYPE_BYTES[kind] for shape, kind in files.columns.values())
    return Config(
        name=files.name,
        features=[{"name": "id", "dtype": "string"}, *list_features(files.columns)],
        files=f"{files.place}/train-*",
        examples=files.statement.count,
        data_bytes=files.statement.count * of_one,
        download_bytes=sum(shard.bytes for shard in files.shards),
    )


def _open(source: Folder, name: str) -> JoinedFolder | None:
    try:
        return open_label_set(source, name)
    except LaddError:  # damaged, or of other images: the validator says so
        return None


def _open_net(source: Folder, name: str) -> ProjectorFiles | None:
    try:
        return open_projector(source, name)
    except LaddError:
        return None


def _list_projectors(nets: Sequence[ProjectorFiles]) -> list[str]:
    lines = ['Projectors are small networks that make labels for any view: `ladd_data.load_online(..., "NAME")`.', ""]
    for files in nets:
        backbone, more = files.statement.projector.backbone, files.statement.public_bytes
        beside = f"; {size_of(more)} more are downloaded from where they are public" if more else ""
        lines.append(f"- `{files.name}`, upon `{escape(backbone.name)}`: {size_of(files.bytes)}{beside}")
    return lines


def _default(key: str) -> Any:
    return [_RECORDS] if key == "configs" else None


def _table(sets: Sequence[JoinedFolder]) -> list[str]:
    rows = ["| set | views | stored as | bytes | total variation, mean | files |", "|---|---|---|---|---|---|"]
    for joined in sets:
        files, labels = joined.labels, joined.labels.statement.labels
        views = say_views(labels.views) + ("; some are missing" if labels.present else "")
        size, error = size_of(sum(shard.bytes for shard in files.shards)), f"{labels.certificate.mean_tv:.2g}"
        place = f"`{LABELS_FOLDER}/{files.name}/`"
        rows.append(f"| `{files.name}` | {views} | {say_coding(labels)} | {size} | {error} | {place} |")
    return rows
