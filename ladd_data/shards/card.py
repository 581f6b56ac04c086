"""README.md of a dataset: YAML that the Hub and `datasets` read, and a body that people read."""

from __future__ import annotations

from typing import Any

import yaml

from ladd_data.files import MAX_JSON_DEPTH, MAX_JSON_VALUES, LimitError
from ladd_data.manifest import Labels, Manifest
from ladd_data.shards.layout import card_features, layout_of

CARD_PATH = "README.md"
MAX_HEADER = 4 * 2**20
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster, where there is one
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card_header(manifest: Manifest, data_bytes: int, download_bytes: int) -> dict[str, Any]:
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
            "features": card_features(layout_of(manifest)),
            "splits": [split],
            "download_size": download_bytes,
            "dataset_size": data_bytes,
        },
        "ladd": {"spec_version": manifest.spec_version, "digest": manifest.digest},
    }
    return {"license": manifest.license, **header} if manifest.license else header


def write_card(manifest: Manifest, data_bytes: int, download_bytes: int) -> str:
    """Return the text of README.md.

    Args:
        manifest: what the card tells of.
        data_bytes: bytes of the records in memory.
        download_bytes: bytes of the shards.
    """
    header = yaml.safe_dump(
        card_header(manifest, data_bytes, download_bytes), sort_keys=False, allow_unicode=True, width=1000
    )
    return f"---\n{header}---\n\n{_body(manifest)}"


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


def _body(manifest: Manifest) -> str:
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
            f" Each has {labels.count} dense labels{maker}: one soft label per crop of a {labels.views.n}x"
            f"{labels.views.n} grid, sides {labels.views.ratio} of the image's (LADD, WACV 2025)."
        )
    return "\n".join([*lines, "", *_snippets(manifest), *_facts(manifest)])


def _snippets(manifest: Manifest) -> list[str]:
    labels = manifest.labels
    plain = [
        "```python",
        "from datasets import load_dataset",
        "",
        'train = load_dataset("PATH_OR_REPO")["train"]',
    ]
    if labels is None:
        plain += ["record = train[0]", 'record["image"], record["label"]  # a PIL image, the hard class']
    else:
        plain += _dense_snippet(labels, len(manifest.classes.names))
    ours = [
        "import ladd_data as ladd",
        "",
        'dataset = ladd.load("PATH")',
        'for image, label, dense in dataset.loader(batch_size=256, shuffle=True, seed=0, device="cpu"):',
        "    x = dataset.model_input(image)  # float32, normalised",
    ]
    if labels is not None:
        ours.append("    crops = dataset.views(image)  # the same for every view, bit-equal to what the labeler saw")
    return ["## Load it", "", *plain, "```", "", "```python", *ours, "```", ""]


def _dense_snippet(labels: Labels, classes: int) -> list[str]:
    """Return the lines of plain Python that read this dataset's kind of labels."""
    coding, shape = labels.coding, f"({labels.count}, {classes})"
    if coding.encoding == "topk":
        return [
            "record = train[0]",
            'ids, values = record["dense_topk_ids"], record["dense_topk_log_probs"]'
            f"  # {labels.count} views x {coding.k} classes, log-probabilities",
            'tail = record["dense_tail_log_prob"]  # log of what all other classes have together, per view',
        ]
    if coding.encoding in ("q8", "q4"):
        codes = "codes" if coding.encoding == "q8" else "np.stack([codes & 15, codes >> 4], -1)"
        return [
            "import numpy as np",
            "record = train[0]",
            f'codes = np.frombuffer(record["dense_{coding.encoding}"], np.uint8).reshape({labels.count}, -1)',
            f"codes = {codes}.reshape({labels.count}, -1)[:, :{classes}]",
            f'values = -np.array(record["dense_{coding.encoding}_scale"], np.float32)[:, None] * codes',
            f"probs = np.exp(values) / np.exp(values).sum(1, keepdims=True)  # {shape}",
        ]
    column = f"dense_{coding.space}"
    lines = [
        f'train = train.with_format("numpy", columns=["{column}"], output_all_columns=True)',
        "record = train[0]",
        f'record["image"], record["label"], record["{column}"].shape  # a PIL image, the hard class, {shape}',
    ]
    if coding.space == "log_probs":
        lines.append(f'# The column holds log-probabilities: take exp, never softmax of exp, of record["{column}"].')
    if coding.space == "probs":
        lines.append("# The column holds probabilities: never put a softmax on them.")
    return lines


def _facts(manifest: Manifest) -> list[str]:
    images, error = manifest.images, manifest.images.quantization.error
    facts = {
        "Classes, in label order": ", ".join(manifest.classes.names[:20])
        + (f" ... {len(manifest.classes.names)} in all" if len(manifest.classes.names) > 20 else ""),
        "Stored pixel to model input": f"scale {_short(images.affine.scale)}, offset {_short(images.affine.offset)}",
        "Whitening": images.whitening,
        "Cost of uint8": f"{images.quantization.mode}: RMSE {error.rmse:.2g}, max {error.max_abs:.2g}, "
        f"{error.clipped_share:.1%} clipped",
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


def _short(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in values) + ")"
