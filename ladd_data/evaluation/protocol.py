"""Which networks and optimisers a set is tested with: the papers' protocols, or a list of names.

Source: LADD, Sec. 4.1 ("5-CAE", "4-CAE"; GLaD's networks and, at 32 px, GLaD's networks for CIFAR); GIFT, Sec. 5.4
(the same recipe under SGD, Adam and AdamW).
"""

from __future__ import annotations

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Manifest, Network
from ladd_data.models import DEPTHS, describe_network, sketch_network
from ladd_data.recipe import Optimizer

SMALL_SIDE = 32
"""Pixels up to which GLaD tests with its networks for CIFAR: VGG11 without an adaptive pool, a ViT of 4 px patches."""

OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4),
    "adam": Optimizer(name="adam", lr=1e-3),
    "adamw": Optimizer(name="adamw", lr=1e-3, weight_decay=0.01),
}
"""What an optimiser is set to where the recipe names another one. GIFT compares the three and states AdamW's numbers
only; these are those of DC's code for SGD, and torch's own for Adam and AdamW."""


def name_networks(protocol: str, side: int) -> tuple[str, ...]:
    """Return the networks of a protocol for images of some side.

    Args:
        protocol: 5-cae, 4-cae (which leaves out the ViT, LADD Table 1), or networks' names with commas between.
        side: of the images, in pixels: the ConvNet has a block for each halving down to 4 px, 3 to 6 of them.

    Raises:
        UsageError: a name is empty, or given twice.
    """
    if protocol in ("5-cae", "4-cae"):
        depth = min(max(side.bit_length() - 3, min(DEPTHS.values())), max(DEPTHS.values()))
        small = "-cifar" if side <= SMALL_SIDE else ""
        five = (f"convnet-d{depth}", f"vgg11{small}", "resnet18", "alexnet", f"vit{small}")
        return five if protocol == "5-cae" else five[:4]
    names = tuple(name.strip() for name in protocol.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise UsageError(f'--protocol "{protocol}": expected 5-cae, 4-cae, or different networks: convnet-d3,vgg11.')
    return names


def choose_networks(protocol: str, manifest: Manifest, width: int | None = None) -> tuple[Network, ...]:
    """Return the networks of a protocol for a dataset, each proved to take its images.

    Args:
        protocol: see `name_networks`.
        manifest: of the dataset.
        width: channels of the blocks of ConvNets; 128, the papers', where left out.

    Raises:
        UsageError: the images are not square, or a network is not known or cannot take them.
    """
    images = manifest.images
    if images.height != images.width:
        raise UsageError(f"the dataset has {images.width}x{images.height} images; networks here take squares.")
    networks = []
    for name in name_networks(protocol, images.height):
        networks.append(
            describe_network(
                name,
                classes=len(manifest.classes.names),
                channels=images.channels,
                size=images.height,
                width=width if name in DEPTHS else None,
            )
        )
        sketch_network(networks[-1])
    return tuple(networks)


def choose_optimizer(text: str, own: Optimizer | None) -> Optimizer:
    """Return the optimiser that "adam" or "sgd:0.05" means: the recipe's own where it has that name.

    Args:
        text: a name, and a learning rate after a colon if another one is wanted.
        own: the recipe's.

    Raises:
        UsageError: the name is not known, or the rate is no positive number.
    """
    name, colon, rate = text.partition(":")
    if name not in OPTIMIZERS:
        raise UsageError(f'--optimizers "{text}" is not known. {nearest(name, tuple(OPTIMIZERS))}')
    chosen = own if own is not None and own.name == name else OPTIMIZERS[name]
    if not colon:
        return chosen
    try:
        lr = float(rate)
    except ValueError:
        lr = 0.0
    if not 0 < lr < float("inf"):
        raise UsageError(f'--optimizers "{text}": expected a rate above 0 after the colon, such as {name}:0.01.')
    return chosen.model_copy(update={"lr": lr, "lr_by_network": {}})
