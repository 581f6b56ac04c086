"""README.md of a dataset: YAML that the Hub and `datasets` read, and a body that people read."""

from __future__ import annotations

from typing import Any

import yaml

from ladd_data.card.snippets import write_snippets
from ladd_data.files import MAX_JSON_DEPTH, MAX_JSON_VALUES, LimitError
from ladd_data.manifest import Images, Manifest
from ladd_data.shards.editions import find_container
from ladd_data.shards.layout import layout_of
from ladd_data.types import Edition
from ladd_data.views.geometry import say_views

CARD_PATH = "README.md"
MAX_HEADER = 4 * 2**20
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster, where there is one
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card_header(manifest: Manifest, edition: Edition, data_bytes: int, download_bytes: int) -> dict[str, Any]:
    """Return the card's YAML as a dictionary.

    `dataset_info` is whole, splits included: a card with features but without splits loads, but breaks
    the next person's `push_to_hub`.
    """
    count = manifest.images.count
    size = next((name for limit, name in _SIZE_CATEGORIES if count < limit), "1M<n<10M")
    split = {"name": "train", "num_bytes": data_bytes, "num_examples": count}
    header: dict[str, Any] = {
        "pretty_name": manifest.name,
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "soft-labels", "ladd", f"ladd-{manifest.spec_version}"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
        "dataset_info": {
            "features": find_container(edition).card_features(layout_of(manifest)),
            "splits": [split],
            "download_size": download_bytes,
            "dataset_size": data_bytes,
        },
        "ladd": {"spec_version": manifest.spec_version, "digest": manifest.digest},
    }
    return {"license": manifest.license, **header} if manifest.license else header


def write_card(manifest: Manifest, edition: Edition, data_bytes: int, download_bytes: int) -> str:
    """Return the text of README.md.

    Args:
        manifest: what the card tells of.
        edition: what the shards are.
        data_bytes: bytes of the records in memory.
        download_bytes: bytes of the shards.
    """
    header = yaml.safe_dump(
        card_header(manifest, edition, data_bytes, download_bytes), sort_keys=False, allow_unicode=True, width=1000
    )
    return f"---\n{header}---\n\n{_body(manifest, edition)}"


def read_card_header(text: str) -> dict[str, Any]:
    """Return the YAML of a card as a dictionary.

    Raises:
        ValueError: there is no YAML block, or it cannot be parsed.
    """
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise ValueError("no YAML block at the top")
    if len(parts[1]) > MAX_HEADER:
        raise LimitError(f"a YAML block of {len(parts[1])} characters, more than the {MAX_HEADER} allowed")
    try:
        _check_events(parts[1])
        header = yaml.load(parts[1], _LOADER)
    except LimitError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"YAML that cannot be parsed ({' '.join(str(error).split())})") from error
    if not isinstance(header, dict):
        raise ValueError("a YAML block that is not a mapping")
    return header


def _check_events(text: str) -> None:
    """Refuse YAML that costs more than it weighs, before anything is built from it.

    libyaml's loader overflows the C stack on deep nesting (PyYAML 6.0), and an alias lets a few lines
    stand for gigabytes.
    """
    depth = 0
    for number, event in enumerate(yaml.parse(text, _LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_JSON_DEPTH or number > MAX_JSON_VALUES:
            raise LimitError(f"YAML of more than {MAX_JSON_VALUES} values, or nested more than {MAX_JSON_DEPTH} times")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias: write each value out")


def _body(manifest: Manifest, edition: Edition) -> str:
    images, labels = manifest.images, manifest.labels
    kind = "RGB" if images.channels == 3 else "greyscale"
    lines = [
        f"# {manifest.name}",
        "",
        f"{images.count} distilled images ({images.width}x{images.height} {kind}, {len(manifest.classes.names)} "
        f"classes), made by {manifest.distillation.method}.",
    ]
    if labels is not None:
        maker = f" by a {labels.labeler.network.name} labeler" if labels.labeler else ""
        lines[-1] += (
            f" Each has {labels.count} dense labels{maker}, one soft label per view: {say_views(labels.views)} "
            "(LADD, WACV 2025)."
        )
    return "\n".join([*lines, "", *write_snippets(manifest, edition), *_facts(manifest)])


def _facts(manifest: Manifest) -> list[str]:
    images = manifest.images
    facts = {
        "Classes, in label order": ", ".join(manifest.classes.names[:20])
        + (f" ... {len(manifest.classes.names)} in all" if len(manifest.classes.names) > 20 else ""),
        "Stored pixel to model input": f"scale {_short(images.affine.scale)}, offset {_short(images.affine.offset)}",
        "Whitening": images.whitening,
        "Cost of uint8": _say_cost(images),
        "Dataset digest": f"`{manifest.digest}`",
    }
    if manifest.labels is not None:
        certificate = manifest.labels.certificate
        facts["Error of stored labels"] = (
            f"total variation {certificate.mean_tv:.2g} mean, {certificate.max_tv:.2g} max; "
            f"top-1 agreement {certificate.top1_agreement:.2%}"
        )
    table = [
        "## Facts",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
    ]
    if manifest.citation:
        table += ["## Citation", "", "```", manifest.citation, "```", ""]
    return table


def _say_cost(images: Images) -> str:
    if images.encoding == "jpeg":
        return "none: the method's own JPEG files, byte for byte"
    error = images.quantization.error
    cost = f"RMSE {error.rmse:.2g}, max {error.max_abs:.2g}, {error.clipped_share:.1%} clipped"
    return f"{images.quantization.mode}: {cost}"


def _short(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in values) + ")"
