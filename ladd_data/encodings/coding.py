"""How a label set is stored, and the two directions: labeler output to columns, columns to probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ladd_data.encodings.affine import decode_affine, encode_affine, packed_width
from ladd_data.encodings.dense import decode_dense, encode_dense
from ladd_data.encodings.topk import decode_topk, encode_topk, id_type
from ladd_data.errors import LabelError
from ladd_data.manifest import Coding
from ladd_data.types import F32, F64, Array, Columns, ColumnTypes


def column_types(coding: Coding, views: int, classes: int) -> ColumnTypes:
    """Return each column's shape per record and type, in column order."""
    columns: ColumnTypes = {}
    if coding.encoding == "dense":
        stored = "uint16" if coding.dtype == "bfloat16" else coding.dtype
        columns[f"dense_{coding.space}"] = ((views, classes), stored)
    elif coding.encoding == "topk":
        kept = (views, coding.k or 0)
        columns["dense_topk_ids"] = (kept, id_type(classes))
        columns["dense_topk_log_probs"] = (kept, "float16")
        columns["dense_tail_log_prob"] = ((views,), "float16")
    else:
        columns[f"dense_{coding.encoding}"] = ((views * packed_width(coding.encoding, classes),), "bytes")
        columns[f"dense_{coding.encoding}_scale"] = ((views,), "float16")
    if coding.logz:
        columns["dense_logz"] = ((views,), "float32")
    return columns


def encode_labels(logits: F32, coding: Coding) -> Columns:
    """Turn a labeler's output into columns.

    Args:
        logits: float32 [images, views, classes], unnormalised.
        coding: how to store them.

    Raises:
        LabelError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        image, view = np.argwhere(~np.isfinite(logits))[0][:2]
        raise LabelError(f"labeler output for image {image} of the batch, view {view}: not finite. Check its weights.")
    log_probs, logz = log_softmax(logits)
    return encode_log_probs(log_probs, logz, coding)


def encode_log_probs(log_probs: F64, logz: F64 | None, coding: Coding) -> Columns:
    """Turn normalised log-probabilities, float64 [images, views, classes], into columns.

    Raises:
        LabelError: the coding needs logz, float64 [images, views], and there is none.
    """
    if logz is None and (coding.logz or coding.space == "logits"):
        raise LabelError("logits cannot be had from probabilities: the source has no logz. Store without it.")
    columns: Columns = {}
    if coding.encoding == "dense":
        columns[f"dense_{coding.space}"] = encode_dense(log_probs, logz, coding.space, coding.dtype)
    elif coding.encoding == "topk":
        ids, values, tail = encode_topk(log_probs, coding.k or 0)
        columns.update(dense_topk_ids=ids, dense_topk_log_probs=values, dense_tail_log_prob=tail)
    else:
        codes, scale = encode_affine(log_probs, coding.encoding)
        columns[f"dense_{coding.encoding}"] = codes
        columns[f"dense_{coding.encoding}_scale"] = scale
    if coding.logz and logz is not None:
        columns["dense_logz"] = logz.astype(np.float32)
    return columns


def decode_probs(columns: Mapping[str, Array], coding: Coding, classes: int) -> F32:
    """Turn stored columns into probabilities, float32 [images, views, classes], rows summing to 1.

    Source: spec/ladd-1.0.md, LADD-032, LADD-037, LADD-038.
    """
    if coding.encoding == "topk":
        ids, values = columns["dense_topk_ids"], columns["dense_topk_log_probs"]
        return decode_topk(ids, values, columns["dense_tail_log_prob"], classes)
    if coding.encoding == "dense":
        values = decode_dense(columns[f"dense_{coding.space}"], coding.dtype)
        if coding.space == "probs":
            return values
    else:
        scale = columns[f"dense_{coding.encoding}_scale"]
        values = decode_affine(columns[f"dense_{coding.encoding}"], scale, coding.encoding, classes)
    raised = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


def decode_logits(columns: Mapping[str, Array], coding: Coding, classes: int) -> F32:
    """Turn stored columns into logits, float32 [images, views, classes].

    Raises:
        LabelError: neither logits nor logz were stored.

    Source: spec/ladd-1.0.md, LADD-033.
    """
    if coding.space == "logits":
        return decode_dense(columns["dense_logits"], coding.dtype)
    if not coding.logz:
        raise LabelError("these labels hold no logits: label again with logz (profile default keeps it).")
    tiny = np.finfo(np.float32).tiny
    log_probs = np.log(np.maximum(decode_probs(columns, coding, classes), tiny))
    return np.asarray(log_probs + columns["dense_logz"][..., None], np.float32)


def log_softmax(logits: F32) -> tuple[F64, F64]:
    """Return (log-probabilities, log-sum-exp) in float64, so that the float32 input is the only error."""
    wide = logits.astype(np.float64)
    peak = wide.max(-1, keepdims=True)
    logz = peak + np.log(np.exp(wide - peak).sum(-1, keepdims=True))
    return wide - logz, logz[..., 0]
