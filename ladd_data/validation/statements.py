"""What a manifest says twice: numbers of one field that another field decides, beyond LADD-013."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ladd_data.errors import Problem
from ladd_data.manifest import MANIFEST_PATH, Images, Labels, Manifest

_MEND = "Restore the file from its publisher, or write the dataset again."
_RELATIVE = 1e-6


def check_statements(manifest: Manifest) -> list[Problem]:
    """Return every statement that contradicts another."""
    problems = [*_check_affine(manifest.images), *_check_quantization(manifest.images)]
    if manifest.labels is not None:
        problems += [*_check_certificate(manifest.labels), *_check_labeler(manifest.labels)]
    return problems


def _check_affine(images: Images) -> Iterator[Problem]:
    """Clipped pixels are natural pictures: their map is their normalisation, nothing else."""
    norm = images.normalization
    if norm is None or images.quantization.mode != "clip":
        return
    scale = [1 / (255 * std) for std in norm.std]
    offset = [-mean / std for mean, std in zip(norm.mean, norm.std, strict=True)]
    for name, stated, wanted in (("scale", images.affine.scale, scale), ("offset", images.affine.offset, offset)):
        if not all(math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=1e-9) for a, b in zip(stated, wanted, strict=True)):
            expected = f"{wanted}, from images.normalization, as the mode is clip"
            yield _bad("LADD-027", f"images.affine.{name}", str(list(stated)), expected)


def _check_quantization(images: Images) -> Iterator[Problem]:
    stated = images.quantization
    twice = {"clip": stated.clip, "range": stated.range}.get(stated.mode)
    if twice is not None and twice != stated.error:
        found = f"an error that is not that of {stated.mode}, the mode"
        yield _bad("LADD-028", "images.quantization", found, "the same numbers")
    if stated.mode == "clip" and images.whitening == "zca":
        yield _bad("LADD-028", "images.quantization", "mode clip of whitened pixels", "range")
    for error in (stated.error, stated.clip, stated.range):
        if error is not None and error.rmse > error.max_abs * (1 + _RELATIVE):
            found = f"rmse {error.rmse:g} above max_abs {error.max_abs:g}"
            yield _bad("LADD-028", "images.quantization", found, "a mean of at most the maximum")


def _check_certificate(labels: Labels) -> Iterator[Problem]:
    stated = labels.certificate
    for name, mean, largest in (("tv", stated.mean_tv, stated.max_tv), ("kl", stated.mean_kl, stated.max_kl)):
        if mean > largest * (1 + _RELATIVE):
            found = f"mean_{name} {mean:g} above max_{name} {largest:g}"
            yield _bad("LADD-035", "labels.certificate", found, "a mean of at most the maximum")
    if stated.max_tv > 1 + _RELATIVE:
        yield _bad("LADD-035", "labels.certificate", f"max_tv {stated.max_tv:g}", "at most 1")


def _check_labeler(labels: Labels) -> Iterator[Problem]:
    for number, labeler in enumerate(labels.labelers):
        where = f"labels.ensemble.others.{number - 1}.input" if number else "labels.labeler.input"
        counts = {len(labeler.input.scale), len(labeler.input.offset)}
        if counts != {labeler.network.channels}:
            found = f"a map of {len(labeler.input.scale)} and {len(labeler.input.offset)} channels"
            yield _bad("LADD-036", where, found, f"{labeler.network.channels}, as the network takes")


def _bad(clause: str, field: str, found: str, expected: str) -> Problem:
    return Problem(clause, f"{MANIFEST_PATH}, {field}", found, expected, _MEND)
