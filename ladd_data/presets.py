"""Normalisations and class lists that distillation codes use, by name.

Nothing here is ever applied in silence: a person names a preset, and the manifest records it as asserted.
Sources: each upstream repository's dataset code. Subsets of ImageNet number their classes by hand-written
lists: MTT's (mtt-distillation utils.py) and GLaD's (glad utils.py, `Config.dict`); label i is the i-th entry.
ids of ImageNet classes are always WordNet ids; `imagenet_indices` gives the numbers 0 .. 999.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Classes, Normalization

_IMAGENET_STD = (0.229, 0.224, 0.225)
_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)

NORMALIZATIONS: dict[str, Normalization] = {
    "none": Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "none-grey": Normalization(mean=(0.0,), std=(1.0,)),
    "half": Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "half-grey": Normalization(mean=(0.5,), std=(0.5,)),
    "imagenet": Normalization(mean=(0.485, 0.456, 0.406), std=_IMAGENET_STD),  # also Tiny ImageNet in all our methods
    # GLaD draws its ImageNet pictures with SVHN's mean and ImageNet's std, whatever it then trains with.
    "glad-render": Normalization(mean=(0.4377, 0.4438, 0.4728), std=_IMAGENET_STD),
    "cifar10": Normalization(mean=_CIFAR10_MEAN, std=(0.2023, 0.1994, 0.2010)),
    "cifar10-frepo": Normalization(mean=_CIFAR10_MEAN, std=(0.2470, 0.2435, 0.2616)),
    # CIFAR-100 has three conventions; MTT's family uses CIFAR-10's numbers, which is the preset above.
    "cifar100-dc": Normalization(mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "cifar100-gvbsm": Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761)),
    "svhn": Normalization(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970)),
    "mnist": Normalization(mean=(0.1307,), std=(0.3081,)),
    "fashionmnist": Normalization(mean=(0.2861,), std=(0.3530,)),
}

_DIGITS = tuple("0123456789")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_SHORT_LISTS = {
    "digits": Classes(names=_DIGITS),
    "mnist": Classes(names=_DIGITS, source="mnist"),
    "svhn": Classes(names=_DIGITS, source="svhn"),
    "cifar10": Classes(names=tuple(_CIFAR10.split()), source="cifar10"),
    "fashionmnist": Classes(
        names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        source="fashionmnist",
    ),
}

_LONG_LISTS = {"cifar100": "cifar100", "imagenet-1k": "imagenet-1k", "tinyimagenet": "imagenet-1k"}
"""Name of the list, which is also its file's in class_lists/, and the source its classes are of."""

IMAGENET_SUBSETS: dict[str, tuple[int, ...]] = {
    "imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "imagemeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "imagesquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "imagefruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "imageyellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
    # GLaD's cats, birds, fruits and yellow are the four above.
    "glad-geo": (980, 970, 975, 974, 973, 977, 976, 978, 972, 979),
    "glad-food": (933, 934, 932, 963, 930, 928, 924, 959, 931, 927),
    "glad-mammals": (386, 387, 354, 340, 338, 104, 103, 279, 334, 366),
    "glad-marine": (148, 2, 397, 327, 33, 150, 107, 108, 119, 392),
    "glad-a": (255, 376, 984, 364, 500, 986, 333, 576, 148, 135),
    "glad-b": (129, 916, 90, 275, 995, 874, 102, 259, 685, 139),
    "glad-c": (565, 94, 554, 535, 92, 392, 291, 136, 324, 11),
    "glad-d": (9, 258, 13, 262, 19, 339, 321, 24, 93, 322),
    "glad-e": (816, 96, 100, 145, 739, 713, 783, 76, 688, 326),
}
"""ImageNet-1k indices, in the order of sorted WordNet ids, of label 0, 1, 2, ..."""


class _ClassLists(Mapping[str, Classes]):
    """The class lists by name; a long one is read from its file when it is first asked for."""

    def __getitem__(self, name: str) -> Classes:
        if name in _SHORT_LISTS:
            return _SHORT_LISTS[name]
        if name in IMAGENET_SUBSETS or name in _LONG_LISTS:
            return _build(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([*_SHORT_LISTS, *_LONG_LISTS, *IMAGENET_SUBSETS])

    def __len__(self) -> int:
        return len(_SHORT_LISTS) + len(_LONG_LISTS) + len(IMAGENET_SUBSETS)


CLASS_LISTS: Mapping[str, Classes] = _ClassLists()
"""Classes in label order, by preset name. Names of ImageNet classes are torchvision's, which are distinct: the two
cranes are "crane bird" (134) and "crane" (517), the two maillots "maillot" (638) and "maillot tank suit" (639)."""


def imagenet_indices(classes: Classes) -> tuple[int, ...] | None:
    """Return the ImageNet-1k index, 0 .. 999, of each class; None where the classes are not of ImageNet-1k."""
    if classes.source != "imagenet-1k" or classes.ids is None:
        return None
    place = {wnid: index for index, wnid in enumerate(CLASS_LISTS["imagenet-1k"].ids or ())}
    return tuple(place[wnid] for wnid in classes.ids)


@cache
def _build(name: str) -> Classes:
    """Return a list that is kept in class_lists/, or is part of one that is."""
    if name in IMAGENET_SUBSETS:
        whole = CLASS_LISTS["imagenet-1k"]
        names, ids = whole.names, whole.ids or ()
        chosen = IMAGENET_SUBSETS[name]
        return Classes(names=tuple(names[i] for i in chosen), ids=tuple(ids[i] for i in chosen), source="imagenet-1k")
    text = Path(__file__).with_name("class_lists").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    if name == "tinyimagenet":  # ids only; every one is of ImageNet-1k
        whole = CLASS_LISTS["imagenet-1k"]
        known = dict(zip(whole.ids or (), whole.names, strict=True))
        rows = [[wnid, known[wnid]] for (wnid,) in rows]
    ids_or_none = tuple(row[0] for row in rows) if len(rows[0]) == 2 else None
    return Classes(names=tuple(row[-1] for row in rows), ids=ids_or_none, source=_LONG_LISTS[name])


def parse_normalization(text: str) -> Normalization:
    """Turn a preset's name, or "m1,m2,m3/s1,s2,s3" (mean and std on the 0..1 scale), into a normalisation.

    Raises:
        UsageError: neither a known name nor two equally long lists of numbers, std between 1e-6 and 1000.
    """
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    number = r"-?[0-9]*\.?[0-9]+"
    if re.fullmatch(rf"{number}(,{number})*/{number}(,{number})*", text):
        mean, std = (tuple(float(item) for item in part.split(",")) for part in text.split("/"))
        sane = max(map(abs, mean)) <= 1000 and min(std) >= 1e-6 and max(std) <= 1000
        if len(mean) == len(std) and len(mean) in (1, 3) and sane:
            return Normalization(mean=mean, std=std)
    known = nearest(text, list(NORMALIZATIONS))
    raise UsageError(f'normalization "{text}": not a preset, nor mean/std as "0.5,0.5,0.5/0.5,0.5,0.5". {known}')


def parse_classes(text: str) -> Classes:
    """Turn a preset's name, "a,b,c", or "@FILE" (one name a line, in label order) into a class list.

    Raises:
        UsageError: unknown preset, unreadable file, a name twice.
    """
    if text in CLASS_LISTS:
        return CLASS_LISTS[text]
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{text[1:]}: cannot be read as a list of class names, one a line: {error}") from error
        names = [line.strip() for line in lines if line.strip()]
    elif "," in text:
        names = [name.strip() for name in text.split(",")]
    else:
        known = nearest(text, list(CLASS_LISTS))
        raise UsageError(f'classes "{text}": not a preset, nor a list "a,b,c", nor "@FILE". {known}')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(names) or not names:
        raise UsageError(f'classes "{text}": found {twice or "an empty name"}; expected distinct names in label order.')
    return Classes(names=tuple(names))
