"""Normalisations and class lists that distillation codes use, by name.

Nothing here is ever applied in silence: a person names a preset, and the manifest records the name as
asserted. Sources: each upstream repository's dataset code; ImageNet subsets from
GeorgeCazenavette/mtt-distillation utils.py, where label i is the i-th entry of a hand-written list.
"""

from __future__ import annotations

import re
from pathlib import Path

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Classes, Normalization

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NORMALIZATIONS: dict[str, Normalization] = {
    "none": Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "half": Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "imagenet": Normalization(mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    "cifar10": Normalization(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    # CIFAR-100 has three conventions; MTT's family uses CIFAR-10's numbers, which is the preset above.
    "cifar100-dc": Normalization(mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "cifar100-gvbsm": Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761)),
    "svhn": Normalization(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970)),
    "mnist": Normalization(mean=(0.1307,), std=(0.3081,)),
    "fashionmnist": Normalization(mean=(0.2861,), std=(0.3530,)),
}

_DIGITS = tuple("0123456789")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"


def _imagenet(indices: str, names: str) -> Classes:
    return Classes(names=tuple(names.split("/")), ids=tuple(indices.split()), source="imagenet-1k-index")


CLASS_LISTS: dict[str, Classes] = {
    "digits": Classes(names=_DIGITS),
    "mnist": Classes(names=_DIGITS, source="mnist"),
    "svhn": Classes(names=_DIGITS, source="svhn"),
    "cifar10": Classes(names=tuple(_CIFAR10.split()), source="cifar10"),
    "imagenette": _imagenet(
        "0 217 482 491 497 566 569 571 574 701",
        "tench/English springer/cassette player/chain saw/church/French horn/garbage truck/gas pump/golf ball/"
        "parachute",
    ),
    "imagewoof": _imagenet(
        "193 182 258 162 155 167 159 273 207 229",
        "Australian terrier/Border terrier/Samoyed/beagle/Shih-Tzu/English foxhound/Rhodesian ridgeback/dingo/"
        "golden retriever/Old English sheepdog",
    ),
    "imagemeow": _imagenet(
        "281 282 283 284 285 291 292 290 289 287",
        "tabby/tiger cat/Persian cat/Siamese cat/Egyptian cat/lion/tiger/jaguar/snow leopard/lynx",
    ),
    "imagesquawk": _imagenet(
        "84 130 88 144 145 22 96 9 100 89",
        "peacock/flamingo/macaw/pelican/king penguin/bald eagle/toucan/ostrich/black swan/sulphur-crested cockatoo",
    ),
    "imagefruit": _imagenet(
        "953 954 949 950 951 957 952 945 943 948",
        "pineapple/banana/strawberry/orange/lemon/pomegranate/fig/bell pepper/cucumber/Granny Smith",
    ),
    "imageyellow": _imagenet(
        "309 986 954 951 987 779 599 291 72 11",
        "bee/yellow lady's slipper/banana/lemon/corn/school bus/honeycomb/lion/black and gold garden spider/goldfinch",
    ),
}


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
