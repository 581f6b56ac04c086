"""Mistakes that need other passes through the labelers: other input, other places of views, other arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from ladd_data.labeling.checking.rerun import Probe, place_views, run_probe
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.labeling.pipeline import Computing, Member
from ladd_data.labeling.plan import pipeline_members
from ladd_data.manifest import Affine, Boxes, Full, Grid, Labels, Manifest, Normalization
from ladd_data.pixels import natural_affine, renormalize
from ladd_data.presets import NORMALIZATIONS
from ladd_data.types import F32, I64
from ladd_data.views.geometry import crop_side, grid

VIEWS_A_MISTAKE = 128
REACH = 2
"""Pixels that views may be shifted by."""
RATIOS = ("1/2", "9/16", "3/5", "5/8", "2/3", "3/4", "4/5", "7/8", "1/1")


@dataclass(frozen=True, slots=True)
class Mistaken:
    """What the labelers say when the mistake is made: logits [labelers, records, views, classes] of a probe."""

    probe: Probe
    logits: F32

    def distance(self, probs: F32) -> float:
        """Return the mean total variation between what is stored and the probabilities of the logits."""
        return self.probe.distance(probs)


Mistake = tuple[str, str, Mistaken]
"""Name, sentence, result."""


def rerun_mistakes(
    probe: Probe, manifest: Manifest, labels: Labels, labelers: Sequence[LoadedLabeler], computing: Computing
) -> Iterator[Mistake]:
    """Yield each mistake as (name, sentence, what the labelers say with it), for some views of the probe."""
    members, own = pipeline_members(manifest, tuple(labelers)), [one.description.normalization for one in labelers]
    views = probe.box.shape[1]
    chosen = np.unique(np.linspace(0, views - 1, min(views, VIEWS_A_MISTAKE)).astype(int)).tolist()
    small = probe.pick(slice(0, max(1, VIEWS_A_MISTAKE // len(chosen))), chosen)

    def run(other: Probe) -> Mistaken:
        return Mistaken(other, run_probe(other, members, computing))

    yield from _pixel_mistakes(small, labels, run)
    for name, inputs in _inputs(manifest, labels, members, own):
        fed = [replace(member, input=affine) for member, affine in zip(members, inputs, strict=True)]
        sentence = f"the labeler was fed {name}, not the input it was trained on"
        yield "wrong normalisation", sentence, Mistaken(small, run_probe(small, fed, computing))
    other: Literal["float32", "bf16"] = "bf16" if computing.precision == "float32" else "float32"
    sentence = f"the labels were computed in {other}; meta/ladd.json says {computing.precision}"
    computed = run_probe(small, members, replace(computing, precision=other))
    yield "other precision", sentence, Mistaken(small, computed)
    if isinstance(labels.views, Grid | Full):
        yield from _other_ratios(small, labels.views, chosen, run)
    if not isinstance(labels.views, Full):
        yield _shifted(small, chosen, run)


def _pixel_mistakes(probe: Probe, labels: Labels, run: Callable[[Probe], Mistaken]) -> Iterator[Mistake]:
    """Yield what turns pixels or boxes over."""
    turned = replace(probe, flip=~probe.flip)
    flipped = (
        "the flips are the wrong way round" if probe.flip.any() else "the labels are of views mirrored left to right"
    )
    yield "mirrored views", flipped, run(turned)
    if probe.flip.any():
        unflipped = replace(probe, flip=np.zeros_like(probe.flip))
        yield "flips left out", "the labels are of views that were not mirrored where view_flip says so", run(unflipped)
    if probe.pixels.shape[1] == 3:
        reverse = replace(probe, pixels=np.ascontiguousarray(probe.pixels[:, ::-1]))
        yield "channels reversed", "the labeler was fed blue, green, red in place of red, green, blue", run(reverse)
    if probe.pixels.shape[2] == probe.pixels.shape[3]:
        pixels = np.ascontiguousarray(probe.pixels.swapaxes(2, 3))
        yield (
            "images transposed",
            "the labeler was fed images with rows and columns exchanged",
            run(replace(probe, pixels=pixels)),
        )
        if isinstance(labels.views, Boxes):
            swapped = replace(probe, box=np.ascontiguousarray(probe.box[..., [1, 0, 3, 2]]))
            yield "boxes transposed", "x and y of view_box are exchanged", run(swapped)


def _inputs(
    manifest: Manifest, labels: Labels, members: list[Member], own: list[Normalization]
) -> Iterator[tuple[str, list[Affine]]]:
    """Yield other maps from pixels to the labelers' input, by what they are."""
    images, count = manifest.images, len(members)
    maps: list[tuple[str, list[Affine]]] = []
    if len(labels.labelers) == count:
        maps.append(("the input that meta/ladd.json states", [labeler.input for labeler in labels.labelers]))
    maps.append(("the dataset's own normalisation", [images.affine] * count))
    raw = Affine(scale=(1.0,) * images.channels, offset=(0.0,) * images.channels)
    unit = Affine(scale=(1 / 255,) * images.channels, offset=raw.offset)
    maps += [("stored pixels, 0 to 255, as they are", [raw] * count), ("stored pixels, 0 to 1", [unit] * count)]
    if images.normalization is not None:
        twice = [_after(_normalizing(one), member.input) for one, member in zip(own, members, strict=True)]
        maps.append(("input that was normalised twice", twice))
        maps.append(("stored pixels taken for a natural picture's", [natural_affine(one) for one in own]))
        natural = renormalize(images.affine, images.normalization, _scaling(images.channels, 1.0))
        maps.append(("natural pixels, 0 to 1, without normalisation", [natural] * count))
        wide = renormalize(images.affine, images.normalization, _scaling(images.channels, 1 / 255))
        maps.append(("natural pixels, 0 to 255, without normalisation", [wide] * count))
        for name, preset in NORMALIZATIONS.items():
            if len(preset.mean) == images.channels and name != "none":
                fed = renormalize(images.affine, images.normalization, preset)
                maps.append((f'the normalisation "{name}"', [fed] * count))
    seen = [[member.input for member in members]]
    for name, inputs in maps:
        if not any(_same(inputs, other) for other in seen):
            seen.append(inputs)
            yield name, inputs


def _scaling(channels: int, std: float) -> Normalization:
    return Normalization(mean=(0.0,) * channels, std=(std,) * channels)


def _normalizing(normalization: Normalization) -> Affine:
    """Return the map from 0..1 to normalised."""
    mean, std = normalization.mean, normalization.std
    return Affine(scale=tuple(1 / s for s in std), offset=tuple(-m / s for m, s in zip(mean, std, strict=True)))


def _after(second: Affine, first: Affine) -> Affine:
    """Return the map of both, one after the other."""
    scale = tuple(b * a for a, b in zip(first.scale, second.scale, strict=True))
    offset = tuple(b * a + c for a, b, c in zip(first.offset, second.scale, second.offset, strict=True))
    return Affine(scale=scale, offset=offset)


def _same(one: list[Affine], other: list[Affine]) -> bool:
    return all(
        np.allclose((*a.scale, *a.offset), (*b.scale, *b.offset), rtol=1e-5, atol=1e-7)
        for a, b in zip(one, other, strict=True)
    )


def _other_ratios(
    probe: Probe, views: Grid | Full, chosen: list[int], run: Callable[[Probe], Mistaken]
) -> Iterator[Mistake]:
    size = probe.pixels.shape[2:]
    side = crop_side(views, size[0]) if isinstance(views, Grid) else size[0]
    near = [f"{other}/{size[0]}" for other in (side - 1, side + 1) if 0 < other <= size[0]]
    number = views.n if isinstance(views, Grid) else 1
    seen = [place_views(views, size)]
    for ratio in (*near, *RATIOS):
        places = place_views(grid(number, ratio), size)
        if any(np.array_equal(places, other) for other in seen):
            continue
        seen.append(places)
        box: I64 = np.broadcast_to(places[chosen], probe.box.shape).copy()
        yield "other ratio", f"the views are crops of {ratio} of the image's side", run(replace(probe, box=box))


def _shifted(probe: Probe, chosen: list[int], run: Callable[[Probe], Mistaken]) -> Mistake:
    """Let each view lie where it fits best, some pixels away from where it should."""
    high, wide = probe.pixels.shape[2:]
    room = np.array([high, wide]) - probe.box[..., 2:]
    best: F32 | None = None
    least, moves = np.full(len(chosen), np.inf), np.zeros((len(chosen), 2), np.int64)
    logits: F32
    for move in sorted(product(range(-REACH, REACH + 1), repeat=2), key=lambda step: abs(step[0]) + abs(step[1])):
        box = probe.box.copy()
        box[..., :2] = np.clip(box[..., :2] + np.array(move), 0, room)
        logits = run(replace(probe, box=box)).logits
        probs = _softmax(logits)
        far = (np.abs(probe.stored.probs - probs).sum(-1) * probe.stored.present).sum(0)
        better = far < least - 1e-6
        best = logits.copy() if best is None else best
        best[:, :, better] = logits[:, :, better]
        least[better], moves[better] = far[better], move
    if best is None:
        best = run(probe).logits
    moved = np.flatnonzero(moves.any(-1))
    example = f", as view {chosen[moved[0]]} by {tuple(moves[moved[0]].tolist())}" if len(moved) else ""
    sentence = f"{len(moved)} of {len(chosen)} views are shifted, in pixels down and right{example}"
    return "shifted views", sentence, Mistaken(probe, best)


def _softmax(logits: F32) -> F32:
    """Return the mean of the labelers' probabilities, [records, views, classes]."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray((raised / raised.sum(-1, keepdims=True)).mean(0), np.float32)
