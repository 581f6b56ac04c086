"""ladd-data: the open format, converters, labeling step and loaders for label-augmented distilled datasets.

    import ladd_data as ladd
    dataset = ladd.load("DIR")
    for image, label, dense in dataset.loader(batch_size=256, shuffle=True, seed=0): ...

Importing this package is light: a name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ladd_data.converter import Answers as Answers
    from ladd_data.converter import Ask as Ask
    from ladd_data.converter import Converter as Converter
    from ladd_data.converter import Description as Description
    from ladd_data.converter import Distilled as Distilled
    from ladd_data.converter import Preset as Preset
    from ladd_data.converter import SoftValues as SoftValues
    from ladd_data.converter import ViewLabels as ViewLabels
    from ladd_data.dataset import Dataset as Dataset
    from ladd_data.dataset import load as load
    from ladd_data.deploy import losses as losses
    from ladd_data.errors import ConvertError as ConvertError
    from ladd_data.errors import DatasetError as DatasetError
    from ladd_data.errors import LabelError as LabelError
    from ladd_data.errors import LaddError as LaddError
    from ladd_data.errors import Problem as Problem
    from ladd_data.errors import UsageError as UsageError
    from ladd_data.evaluation.evaluate import evaluate as evaluate
    from ladd_data.evaluation.plan import EvaluationPlan as EvaluationPlan
    from ladd_data.hub import pull as pull
    from ladd_data.hub import push as push
    from ladd_data.labeling.checking.check import check_labels as check_labels
    from ladd_data.labeling.labeler import load_labeler as load_labeler
    from ladd_data.labeling.store import GivenLabels as GivenLabels
    from ladd_data.labeling.store import store_labels as store_labels
    from ladd_data.loaders.mapstyle import collate as collate
    from ladd_data.loaders.reading.remote import Patience as Patience
    from ladd_data.loaders.streaming.stream import stream as stream
    from ladd_data.manifest import SPEC_VERSION as SPEC_VERSION
    from ladd_data.manifest import Boxes as Boxes
    from ladd_data.manifest import Classes as Classes
    from ladd_data.manifest import Coding as Coding
    from ladd_data.manifest import Full as Full
    from ladd_data.manifest import Manifest as Manifest
    from ladd_data.manifest import Mix as Mix
    from ladd_data.manifest import Normalization as Normalization
    from ladd_data.manifest import Opaque as Opaque
    from ladd_data.pictures import Pictures as Pictures
    from ladd_data.pictures import open_pictures as open_pictures
    from ladd_data.presets import imagenet_indices as imagenet_indices
    from ladd_data.projector.online import load_online as load_online
    from ladd_data.recipe import Recipe as Recipe
    from ladd_data.recipes import RECIPES as RECIPES
    from ladd_data.types import Batch as Batch
    from ladd_data.types import Record as Record
    from ladd_data.validation import validate as validate
    from ladd_data.views.geometry import boxes as boxes
    from ladd_data.views.geometry import grid as grid

__version__ = "0.1.0"

_HOMES = {
    "Answers": "converter",
    "Ask": "converter",
    "Batch": "types",
    "Boxes": "manifest",
    "Classes": "manifest",
    "Coding": "manifest",
    "ConvertError": "errors",
    "Converter": "converter",
    "Dataset": "dataset",
    "DatasetError": "errors",
    "Description": "converter",
    "Distilled": "converter",
    "EvaluationPlan": "evaluation.plan",
    "Full": "manifest",
    "GivenLabels": "labeling.store",
    "LabelError": "errors",
    "LaddError": "errors",
    "Manifest": "manifest",
    "Mix": "manifest",
    "Opaque": "manifest",
    "Normalization": "manifest",
    "Patience": "loaders.reading.remote",
    "Pictures": "pictures",
    "Preset": "converter",
    "Problem": "errors",
    "RECIPES": "recipes",
    "Recipe": "recipe",
    "Record": "types",
    "SPEC_VERSION": "manifest",
    "SoftValues": "converter",
    "UsageError": "errors",
    "ViewLabels": "converter",
    "boxes": "views.geometry",
    "check_labels": "labeling.checking.check",
    "collate": "loaders.mapstyle",
    "evaluate": "evaluation.evaluate",
    "grid": "views.geometry",
    "imagenet_indices": "presets",
    "load": "dataset",
    "load_labeler": "labeling.labeler",
    "load_online": "projector.online",
    "open_pictures": "pictures",
    "pull": "hub",
    "push": "hub",
    "store_labels": "labeling.store",
    "stream": "loaders.streaming.stream",
    "validate": "validation",
}

__all__ = ["__version__", "losses", *_HOMES]


def __getattr__(name: str) -> object:
    if name == "losses":
        return import_module("ladd_data.deploy.losses")
    if name in _HOMES:
        return getattr(import_module(f"ladd_data.{_HOMES[name]}"), name)
    raise AttributeError(f'module "ladd_data" has no attribute "{name}"')


def __dir__() -> list[str]:
    return sorted(__all__)
