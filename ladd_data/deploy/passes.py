"""How the pictures of a step are cut into forward passes, and what that does to a network."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from ladd_data.deploy.losses.terms import TermsLoss
from ladd_data.deploy.options import Options
from ladd_data.deploy.resolve import whole
from ladd_data.errors import UsageError
from ladd_data.manifest import Manifest, Network
from ladd_data.models import sketch_network
from ladd_data.recipe import Recipe

NUMBERS_PER_PASS = {"cpu": 2**22, "cuda": 2**29}
"""In one layer's output of a pass of views: on a CPU what caches hold (16 MB), on a GPU 2 GB. 32 pictures of 32x32 at
width 128, or 256 at width 16; on a GPU 256 of 128x128 at width 128."""
USUAL_WIDTH = 64
"""Channels of the first layer of networks that have no width to choose: ResNets, VGGs."""


def settle(options: Options, manifest: Manifest, recipe: Recipe, network: Network, device: torch.device) -> Options:
    """Return the options with nothing left open: above all, the views of each image that share a pass.

    A network whose pictures do not see each other in a batch trains the same however they are cut, but for rounding,
    so as many views share a pass as `NUMBERS_PER_PASS` allows, spread evenly. One with batch statistics gets one view
    of each image per pass, on every device: the recipe's batch size is then that of its statistics.

    Raises:
        UsageError: CUDA graphs are wanted on another device.
    """
    if options.cuda_graphs and device.type != "cuda":
        raise UsageError(f"--cuda-graphs: the device is {device.type}; CUDA graphs need an NVIDIA GPU. Leave it out.")
    options = options.model_copy(update={"compiled": options.compiled or options.cuda_graphs})
    if manifest.labels is None or options.views_per_pass is not None:
        return options
    views = recipe.views_per_step or manifest.labels.count
    chosen = 1
    if not has_batch_statistics(network):
        numbers = NUMBERS_PER_PASS.get(device.type, NUMBERS_PER_PASS["cuda"])
        picture = manifest.images.height * manifest.images.width * (network.width or USUAL_WIDTH)
        fits = numbers // (picture * min(whole(recipe.batch_size), manifest.images.count))
        shared = -(-(views + 1) // options.ranks_per_student)
        chosen = _evenly(views, max(1, min(views, fits, shared)))
    return options.model_copy(update={"views_per_pass": chosen})


def describe_passes(loss: TermsLoss, options: Options, manifest: Manifest, network: Network) -> str:
    """Return in words how a step is cut into passes, and of what batch statistics are.

    Raises:
        UsageError: there are fewer passes than processes to share them.
    """
    sizes = [1] if loss.terms.full_hard or loss.terms.full_soft else []
    parts = ["the full images"] if sizes else []
    if (loss.terms.sub_hard or loss.terms.sub_soft) and manifest.labels is not None:
        views = loss.views_per_step or manifest.labels.count
        size = min(views, loss.views_per_pass or views)
        sizes += [size] * (views // size) + [views % size] * (views % size > 0)
        parts.append(f"{views} views of each, {size} a pass")
    ranks = options.ranks_per_student
    if ranks > len(sizes):
        raise UsageError(
            f"--ranks-per-student {ranks}: a step of this loss has {len(sizes)} pass{'es' * (len(sizes) > 1)} to share "
            f"({', then '.join(parts)}). Let processes train students of their own: leave it out."
        )
    if ranks > 1:
        parts.append(f"shared by {ranks} processes")
    if has_batch_statistics(network):
        parts.append("batch statistics are of each pass")
        if ranks > 1:
            parts.append("running ones are averaged over the processes before the test")
    return "; ".join(parts)


def has_batch_statistics(network: Network) -> bool:
    """Tell whether a network normalises by statistics of its batch."""
    return _has_batch_statistics(network.model_dump_json())


@lru_cache
def _has_batch_statistics(network: str) -> bool:
    sketch = sketch_network(Network.model_validate_json(network))
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in sketch.modules())


def _evenly(views: int, most: int) -> int:
    """Return the size of equal chunks, the last one smaller, that are as few as chunks of `most` would be."""
    return -(-views // -(-views // most))
