"""Soft labels survive storage with the error that the certificate states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ladd_data.encodings import PROFILES, CertificateMeter, decode_probs, encode_labels, find_profile
from ladd_data.errors import LabelError, UsageError
from ladd_data.loaders.decode import decode_probs as decode_on_device
from ladd_data.types import F32

LOGITS = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 12)),
    elements=st.floats(-60, 60, width=32),
)


def softmax64(logits: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    raised = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


@settings(deadline=None)
@given(logits=LOGITS)
def test_probabilities_come_back_within_the_profiles_error(logits: F32) -> None:
    for name, limit in {"paper": 1e-6, "default": 1e-3}.items():
        profile = PROFILES[name]

        probs = decode_probs(encode_labels(logits, profile), profile.space)

        assert np.abs(probs - softmax64(logits)).sum(-1).max() / 2 <= limit
        assert np.abs(probs.sum(-1) - 1).max() <= 1e-5


@settings(deadline=None)
@given(logits=LOGITS)
def test_logz_gives_the_logits_back(logits: F32) -> None:
    columns = encode_labels(logits, PROFILES["default"])

    restored = columns["dense_log_probs"].astype(np.float32) + columns["dense_logz"][..., None]

    assert np.abs(restored - logits).max() <= 0.04  # float16 spacing is 1/16 between 64 and 128


@settings(deadline=None)
@given(logits=LOGITS)
def test_the_loaders_decoder_agrees_with_the_reference(logits: F32) -> None:
    for profile in PROFILES.values():
        columns = encode_labels(logits, profile)
        stored = torch.from_numpy(columns[f"dense_{profile.space}"])

        assert (
            np.abs(decode_on_device(stored, profile.space).numpy() - decode_probs(columns, profile.space)).max() < 1e-6
        )


def test_the_certificate_states_the_error_of_an_independent_count() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (20, 25, 10)).astype(np.float32)
    stored = decode_probs(encode_labels(logits, PROFILES["default"]), "log_probs")
    meter = CertificateMeter()
    meter.add(logits[:7], stored[:7])
    meter.add(logits[7:], stored[7:])

    certificate = meter.result()

    p, q = softmax64(logits), stored.astype(np.float64)
    q /= q.sum(-1, keepdims=True)
    tv, kl = np.abs(p - q).sum(-1) / 2, (p * np.log(p / q)).sum(-1)
    assert certificate.mean_tv == pytest.approx(tv.mean())
    assert certificate.max_tv == pytest.approx(tv.max())
    assert certificate.mean_kl == pytest.approx(kl.mean(), rel=1e-6)
    assert certificate.max_kl <= 1e-6
    assert certificate.top1_agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())


def test_float16_log_probs_keep_a_confident_label_of_1000_classes() -> None:
    logits = np.zeros((1, 1, 1000), np.float32)
    logits[0, 0, 0] = 40
    columns = encode_labels(logits, PROFILES["default"])

    assert columns["dense_log_probs"].astype(np.float32)[0, 0, 1] == pytest.approx(-40, abs=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    logits = np.zeros((2, 3, 4), np.float32)
    logits[1, 2, 0] = bad

    with pytest.raises(LabelError, match="image 1 of the batch, view 2"):
        encode_labels(logits, PROFILES["paper"])


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='Did you mean "paper"'):
        find_profile("papre")
