"""Soft labels survive storage with the error that the certificate states, in every encoding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ladd_data.encodings.affine import pack, packed_width, unpack
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.encodings.coding import column_types, decode_logits, decode_probs, encode_labels, log_softmax
from ladd_data.encodings.dense import from_bfloat16, to_bfloat16
from ladd_data.encodings.profiles import Budget, coding_of_encoding, coding_of_profile
from ladd_data.encodings.topk import id_type
from ladd_data.errors import LabelError, UsageError
from ladd_data.loaders.decode import decode_probs as decode_on_device
from ladd_data.loaders.decode import to_tensors
from ladd_data.manifest import Coding
from ladd_data.types import F32, F64, Columns

GOLDEN = Path(__file__).parents[1] / "spec" / "golden" / "labels.json"
CODINGS = {
    "float32": Coding(dtype="float32", logz=True),
    "float16": Coding(logz=True),
    "bfloat16": Coding(dtype="bfloat16"),
    "probs": Coding(space="probs", dtype="float32"),
    "logits": Coding(space="logits", dtype="float16"),
    "q8": Coding(encoding="q8", logz=True),
    "q4": Coding(encoding="q4", logz=True),
    "topk": Coding(encoding="topk", k=1, logz=True),
}
LOGITS = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 13)),
    elements=st.floats(-60, 60, width=32),
)


def softmax64(logits: F32) -> F64:
    return np.exp(log_softmax(logits)[0])


def teacher_logits(images: int, views: int, classes: int, seed: int = 0) -> F32:
    """Labels like a trained network's: one or a few likely classes, a long tail."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2.5, (images, views, classes))
    logits[..., 0] += generator.exponential(3, (images, views))
    return logits.astype(np.float32)


def measure(logits: F32, coding: Coding) -> tuple[float, float]:
    """Return (mean KL, mean total variation) of a round trip."""
    meter = CertificateMeter()
    meter.add(log_softmax(logits)[0], decode_probs(encode_labels(logits, coding), coding, logits.shape[-1]))
    return meter.result().mean_kl, meter.result().mean_tv


@settings(deadline=None)
@given(logits=LOGITS)
@pytest.mark.parametrize("name", CODINGS)
def test_every_encoding_gives_probabilities_and_the_columns_it_promises(name: str, logits: F32) -> None:
    coding, (images, views, classes) = CODINGS[name], logits.shape

    columns = encode_labels(logits, coding)

    types = column_types(coding, views, classes)
    stored = {
        key: (values.shape[1:], "bytes" if types[key][1] == "bytes" else values.dtype.name)
        for key, values in columns.items()
    }
    assert stored == types and all(len(values) == images for values in columns.values())
    probs = decode_probs(columns, coding, classes)
    assert probs.shape == logits.shape and probs.dtype == np.float32
    assert probs.min() >= 0 and np.abs(probs.sum(-1) - 1).max() <= 1e-5


@settings(deadline=None)
@given(logits=LOGITS)
@pytest.mark.parametrize("name", CODINGS)
def test_the_loaders_decoder_agrees_with_the_reference(name: str, logits: F32) -> None:
    coding, classes = CODINGS[name], logits.shape[-1]
    columns = encode_labels(logits, coding)

    on_device = decode_on_device(to_tensors(columns), coding, classes)

    assert np.abs(on_device.numpy() - decode_probs(columns, coding, classes)).max() < 1e-6


@settings(deadline=None)
@given(logits=LOGITS)
def test_float_encodings_are_within_their_rounding(logits: F32) -> None:
    for name, limit in {"float32": 1e-5, "probs": 1e-6, "float16": 1e-3, "bfloat16": 2e-2}.items():
        probs = decode_probs(encode_labels(logits, CODINGS[name]), CODINGS[name], logits.shape[-1])
        # a log-probability of -100 is rounded by 1/32 in float16, but only the likely classes weigh
        assert np.abs(probs - softmax64(logits)).sum(-1).max() / 2 <= limit


@settings(deadline=None)
@given(logits=LOGITS)
def test_topk_keeps_the_k_most_probable_classes_in_order(logits: F32) -> None:
    classes = logits.shape[-1]
    coding = Coding(encoding="topk", k=classes - 1)

    columns = encode_labels(logits, coding)

    ids, values = columns["dense_topk_ids"].astype(int), columns["dense_topk_log_probs"]
    assert np.array_equal(ids, np.argsort(-log_softmax(logits)[0], axis=-1, kind="stable")[..., : classes - 1])
    assert (np.diff(values.astype(np.float32), axis=-1) <= 0).all()


@pytest.mark.parametrize(("name", "limit"), [("float16", 1e-6), ("q8", 1e-4), ("q4", 1e-2)])
def test_mean_kl_at_10_classes_is_within_the_specs_promise(name: str, limit: float) -> None:
    assert measure(teacher_logits(40, 25, 10), CODINGS[name])[0] <= limit


def test_more_bytes_never_mean_a_larger_error() -> None:
    logits = teacher_logits(20, 25, 10)

    errors = [measure(logits, CODINGS[name])[0] for name in ("float32", "float16", "q8", "q4")]

    assert errors == sorted(errors)


@pytest.mark.parametrize("name", ["float32", "float16", "q8", "logits"])
def test_logits_come_back_where_logz_or_logits_are_stored(name: str) -> None:
    logits = teacher_logits(4, 5, 10)

    restored = decode_logits(encode_labels(logits, CODINGS[name]), CODINGS[name], 10)

    likely = log_softmax(logits)[0] > -8
    assert np.abs(restored - logits)[likely].max() <= (0.1 if name == "q8" else 0.01)


@pytest.mark.parametrize("name", ["probs", "bfloat16"])
def test_logits_are_refused_where_they_cannot_be_had(name: str) -> None:
    columns = encode_labels(teacher_logits(1, 2, 4), CODINGS[name])

    with pytest.raises(LabelError, match="label again with logz"):
        decode_logits(columns, CODINGS[name], 4)


@given(classes=st.integers(1, 40), views=st.integers(1, 5), data=st.data())
@pytest.mark.parametrize("encoding", ["q8", "q4"])
def test_codes_survive_packing(encoding: str, classes: int, views: int, data: st.DataObject) -> None:
    top = 255 if encoding == "q8" else 15
    codes = data.draw(arrays(np.uint8, (2, views, classes), elements=st.integers(0, top)))

    packed = pack(codes, encoding)

    assert packed.shape == (2, views * packed_width(encoding, classes))
    assert np.array_equal(unpack(packed, encoding, views, classes), codes)


@given(values=arrays(np.float32, 20, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_bfloat16_rounds_to_the_nearest_and_widens_exactly(values: F32) -> None:
    bits = to_bfloat16(values)

    assert np.array_equal(from_bfloat16(bits), torch.from_numpy(values).to(torch.bfloat16).float().numpy())


def test_ids_take_the_narrowest_type_that_holds_the_classes() -> None:
    assert [id_type(classes) for classes in (256, 257, 65536, 65537)] == ["uint8", "uint16", "uint16", "uint32"]


def test_the_golden_vectors_decode_as_committed() -> None:
    for vector in json.loads(GOLDEN.read_text()):
        coding = Coding.model_validate_json(json.dumps(vector["coding"]))
        columns: Columns = {}
        for name, (shape, kind) in column_types(coding, vector["views"], vector["classes"]).items():
            dtype = np.dtype("uint8" if kind == "bytes" else kind).newbyteorder("<")
            columns[name] = np.frombuffer(bytes.fromhex(vector["columns"][name]), dtype).reshape(1, *shape)

        probs = decode_probs(columns, coding, vector["classes"])

        assert np.abs(probs[0] - np.array(vector["probs"])).max() < 2e-6, vector["name"]


def test_the_certificate_states_the_error_of_an_independent_count() -> None:
    logits, coding = teacher_logits(20, 25, 10), CODINGS["float16"]
    stored = decode_probs(encode_labels(logits, coding), coding, 10)
    log_probs = log_softmax(logits)[0]
    meter = CertificateMeter()
    meter.add(log_probs[:7], stored[:7])
    meter.add(log_probs[7:], stored[7:])

    certificate = meter.result()

    p, q = np.exp(log_probs), stored.astype(np.float64)
    q /= q.sum(-1, keepdims=True)
    tv, kl = np.abs(p - q).sum(-1) / 2, (p * np.log(p / q)).sum(-1)
    assert certificate.mean_tv == pytest.approx(tv.mean()) and certificate.max_tv == pytest.approx(tv.max())
    assert certificate.mean_kl == pytest.approx(kl.mean(), rel=1e-6) and certificate.max_kl == pytest.approx(kl.max())
    assert certificate.top1_agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    logits = np.zeros((2, 3, 4), np.float32)
    logits[1, 2, 0] = bad

    with pytest.raises(LabelError, match="image 1 of the batch, view 2"):
        encode_labels(logits, CODINGS["probs"])


def test_compact_is_q4_for_few_classes_and_top_k_within_the_budget_for_many() -> None:
    few = coding_of_profile("compact", Budget(classes=10, views=25, image_bytes=3000))
    many = coding_of_profile("compact", Budget(classes=1000, views=25, image_bytes=150_528))

    assert (few.encoding, many.encoding) == ("q4", "topk")
    assert many.k == 37 and 25 * (37 * 4 + 2) <= 0.025 * 150_528


def test_names_that_are_not_known_or_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match='Did you mean "paper"'):
        coding_of_profile("papre", Budget(10, 25, 3000))
    with pytest.raises(UsageError, match='Did you mean "float16"'):
        coding_of_encoding("float61", 10)
    for k in (0, 10):
        with pytest.raises(UsageError, match=r"1 \.\. 9"):
            coding_of_encoding("topk", 10, k=k)
    with pytest.raises(UsageError, match="not with q8"):
        coding_of_encoding("q8", 10, k=3)
