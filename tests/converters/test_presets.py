"""Normalisations and class lists: facts that are easily mistyped, and silently wrong when they are."""

from __future__ import annotations

import hashlib

import pytest

from ladd_data.presets import CLASS_LISTS, IMAGENET_SUBSETS, NORMALIZATIONS, imagenet_indices, parse_classes

DIGESTS = {
    "cifar100": (100, "fbe8ad23bbaf2496"),
    "imagenet-1k": (1000, "0f27ab4139dde018"),
    "tinyimagenet": (200, "50efd694708ea57f"),
}


def ids_of(name: str) -> tuple[str, ...]:
    ids = CLASS_LISTS[name].ids
    assert ids is not None
    return ids


def test_every_list_has_distinct_names_and_distinct_ids() -> None:
    assert len(CLASS_LISTS) == len(list(CLASS_LISTS)) == 23
    for name, classes in CLASS_LISTS.items():
        assert len(set(classes.names)) == len(classes.names) and all(classes.names), name
        if classes.ids is not None:
            assert len(set(classes.ids)) == len(classes.ids) == len(classes.names), name


@pytest.mark.parametrize("name", DIGESTS)
def test_long_lists_are_unchanged(name: str) -> None:
    classes = CLASS_LISTS[name]
    content = "\n".join([*classes.names, *(classes.ids or ())])

    assert (len(classes.names), hashlib.sha256(content.encode()).hexdigest()[:16]) == DIGESTS[name]


def test_imagenet_is_in_the_order_of_sorted_wordnet_ids() -> None:
    names, ids = CLASS_LISTS["imagenet-1k"].names, ids_of("imagenet-1k")

    assert list(ids) == sorted(ids)
    known = {0: ("n01440764", "tench"), 217: ("n02102040", "English springer"), 281: ("n02123045", "tabby")}
    known |= {701: ("n03888257", "parachute"), 949: ("n07745940", "strawberry"), 999: ("n15075141", "toilet tissue")}
    assert {index: (ids[index], names[index]) for index in known} == known


def test_the_two_cranes_and_the_two_maillots_are_told_apart() -> None:
    names = CLASS_LISTS["imagenet-1k"].names

    assert (names[134], names[517]) == ("crane bird", "crane")
    assert (names[638], names[639]) == ("maillot", "maillot tank suit")


def test_tiny_imagenet_is_sorted_and_part_of_imagenet() -> None:
    ids = ids_of("tinyimagenet")

    assert list(ids) == sorted(ids) and set(ids) < set(ids_of("imagenet-1k"))
    assert (ids[0], ids[32], ids[199]) == ("n01443537", "n02124075", "n12267677")
    assert CLASS_LISTS["tinyimagenet"].names[32] == "Egyptian cat"


def test_cifar100_is_the_fine_names_in_alphabetical_order() -> None:
    names = CLASS_LISTS["cifar100"].names

    assert list(names) == sorted(names)
    assert (names[0], names[50], names[99]) == ("apple", "mouse", "worm")


@pytest.mark.parametrize(
    ("subset", "names"),
    [
        ("imagewoof", ["Australian terrier", "Border terrier", "Samoyed"]),
        ("imagemeow", ["tabby", "tiger cat", "Persian cat"]),
        ("imagesquawk", ["peacock", "flamingo", "macaw"]),
        ("imagefruit", ["pineapple", "banana", "strawberry"]),
        ("imageyellow", ["bee", "yellow lady's slipper", "banana"]),
        ("glad-geo", ["volcano", "alp", "lakeside"]),
        ("glad-food", ["cheeseburger", "hotdog", "pretzel"]),
        ("glad-mammals", ["African elephant", "lesser panda", "Arabian camel"]),
        ("glad-marine", ["killer whale", "great white shark", "puffer"]),
        ("glad-a", ["Leonberg", "proboscis monkey", "rapeseed"]),
        ("glad-b", ["spoonbill", "web site", "lorikeet"]),
        ("glad-c", ["freight car", "hummingbird", "fireboat"]),
        ("glad-d", ["ostrich", "Samoyed", "junco"]),
        ("glad-e", ["spindle", "toucan", "black swan"]),
    ],
)
def test_subsets_of_imagenet_are_in_their_authors_order(subset: str, names: list[str]) -> None:
    assert list(CLASS_LISTS[subset].names[:3]) == names


def test_indices_come_back_from_wordnet_ids() -> None:
    for name, indices in IMAGENET_SUBSETS.items():
        assert imagenet_indices(CLASS_LISTS[name]) == indices and len(indices) == 10
    assert imagenet_indices(CLASS_LISTS["tinyimagenet"]) is not None
    assert imagenet_indices(CLASS_LISTS["cifar10"]) is imagenet_indices(parse_classes("a,b")) is None


def test_glad_renders_with_another_mean_than_it_trains_with() -> None:
    render, train = NORMALIZATIONS["glad-render"], NORMALIZATIONS["imagenet"]

    assert render.std == train.std
    steps = [round((a - b) * 255) for a, b in zip(train.mean, render.mean, strict=True)]
    assert steps == [12, 3, -17]


def test_conventions_for_cifar_differ() -> None:
    assert NORMALIZATIONS["cifar100-dc"] != NORMALIZATIONS["cifar100-gvbsm"] != NORMALIZATIONS["cifar10"]
    assert NORMALIZATIONS["cifar10-frepo"].std == (0.2470, 0.2435, 0.2616)
