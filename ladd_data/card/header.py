"""The YAML block of a card: what the Hub and `datasets` read of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ladd_data.files import MAX_JSON_DEPTH, MAX_JSON_VALUES, LimitError
from ladd_data.manifest import Manifest
from ladd_data.shards.editions import find_container
from ladd_data.shards.layout import layout_of
from ladd_data.types import Edition

CARD_PATH = "README.md"
MAX_HEADER = 4 * 2**20
DEFAULT = "default"
"""The config of the records."""
_TOO_DEEP = "exceeded maximum nesting depth"
"""What libyaml says of levels that it does not follow."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster, where there is one
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SOURCES = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashionmnist": "zalando-datasets/fashion_mnist",
    "imagenet-1k": "ILSVRC/imagenet-1k",
    "mnist": "ylecun/mnist",
    "svhn": "ufldl-stanford/svhn",
}
"""Where on the Hub the source of a class list is."""
_LICENSE_IDS = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by- nc-nd-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0
isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 other pddl
postgresql unknown unlicense wtfpl zlib
"""
HUB_LICENSES = frozenset(_LICENSE_IDS.split())
"""Identifiers of licences that the Hub takes in a card."""


@dataclass(frozen=True, slots=True)
class Config:
    """One table of the repository that `load_dataset(repo, name)` gives.

    features: as `dataset_info` has them; files: a glob of the repository's paths; the rest is of its split `train`.
    """

    name: str
    features: list[dict[str, Any]]
    files: str
    examples: int
    data_bytes: int
    download_bytes: int

    def where(self) -> dict[str, Any]:
        """Return its entry of `configs`."""
        return {"config_name": self.name, "data_files": [{"split": "train", "path": self.files}]}

    def info(self) -> dict[str, Any]:
        """Return its `dataset_info`, without its name.

        Splits included: a card with features but without splits loads, but breaks the next person's `push_to_hub`.
        """
        return {
            "features": self.features,
            "splits": [{"name": "train", "num_bytes": self.data_bytes, "num_examples": self.examples}],
            "download_size": self.download_bytes,
            "dataset_size": self.data_bytes,
        }


def records_config(manifest: Manifest, edition: Edition, data_bytes: int, download_bytes: int) -> Config:
    """Return the table of the records: `data_bytes` of them in memory, `download_bytes` of the shards."""
    features = find_container(edition).card_features(layout_of(manifest))
    return Config(DEFAULT, features, "data/train-*", manifest.images.count, data_bytes, download_bytes)


def card_header(manifest: Manifest, configs: Sequence[Config]) -> dict[str, Any]:
    """Return the card's YAML as a dictionary.

    Args:
        manifest: of the dataset.
        configs: the table of the records, and further ones after it.
    """
    count = manifest.images.count
    tags = ["dataset-distillation", "dataset-condensation"]
    tags += ["soft-labels", "knowledge-distillation"] if manifest.labels or manifest.soft else []
    header: dict[str, Any] = {
        **_license(manifest.license),
        "pretty_name": manifest.name,
        "task_categories": ["image-classification"],
        "tags": [*tags, "ladd", f"ladd-{manifest.spec_version}"],
        "size_categories": [next((name for limit, name in _SIZE_CATEGORIES if count < limit), "1M<n<10M")],
    }
    if (source := source_dataset(manifest)) is not None:
        header["source_datasets"] = [source]
    header["configs"] = [config.where() for config in configs]
    infos = [{"config_name": config.name, **config.info()} for config in configs]
    header["dataset_info"] = infos if len(infos) > 1 else configs[0].info()
    return header | {"ladd": {"spec_version": manifest.spec_version, "digest": manifest.digest}}


def find_info(header: Mapping[str, Any]) -> Any:
    """Return `dataset_info` of the records, whether or not there are further tables; None where there is none."""
    info = header.get("dataset_info")
    if not isinstance(info, list):
        return info
    return next((one for one in info if isinstance(one, dict) and one.get("config_name", DEFAULT) == DEFAULT), None)


def source_dataset(manifest: Manifest) -> str | None:
    """Return the Hub's name of the dataset that was distilled; None where the class list does not say."""
    return _SOURCES.get(manifest.classes.source or "")


def dump_header(header: Mapping[str, Any]) -> str:
    """Return the YAML block of a card with its two lines `---`."""
    return f"---\n{yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True, width=1000)}---\n"


def _license(stated: str | None) -> dict[str, str]:
    """Return the keys that state a licence: the Hub takes identifiers of its list, and names beside "other"."""
    if not stated:
        return {}
    name = stated.strip().lower()
    if name in HUB_LICENSES:
        return {"license": name}
    return {"license": "other", "license_name": " ".join(stated.split())[:200]}


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
        said = " ".join(str(error).split())
        if _TOO_DEEP in said:
            raise LimitError(f"YAML nested more than {MAX_JSON_DEPTH} times ({said})") from error
        raise ValueError(f"YAML that cannot be parsed ({said})") from error
    if not isinstance(header, dict):
        raise ValueError("a YAML block that is not a mapping")
    return header


def _check_events(text: str) -> None:
    """Refuse YAML that costs more than it weighs, before anything is built from it.

    libyaml's loader overflows the C stack on deep nesting (PyYAML 6.0; from 6.0.4 on it refuses a thousand levels
    itself), and an alias lets a few lines stand for gigabytes.
    """
    depth = 0
    for number, event in enumerate(yaml.parse(text, _LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_JSON_DEPTH or number > MAX_JSON_VALUES:
            raise LimitError(f"YAML of more than {MAX_JSON_VALUES} values, or nested more than {MAX_JSON_DEPTH} times")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias: write each value out")
