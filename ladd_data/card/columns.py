"""The label columns in words."""

from __future__ import annotations

_CODES = "each view's probabilities as the softmax of -scale x code, {} a class"
COLUMNS = {
    "dense_log_probs": "a row per view: log-probabilities of the classes",
    "dense_probs": "a row per view: probabilities of the classes, never to be put through a softmax",
    "dense_logits": "a row per view: logits of the classes; their softmax is the soft label",
    "dense_logz": "log-sum-exp of each view's logits: logits = log-probabilities + this",
    "dense_topk_ids": "the most probable classes of each view, the most probable first",
    "dense_topk_log_probs": "their log-probabilities",
    "dense_tail_log_prob": "the log-probability of all other classes together, for each view",
    "dense_q8": _CODES.format("a byte"),
    "dense_q8_scale": "the scale of each view's codes",
    "dense_q4": _CODES.format("half a byte"),
    "dense_q4_scale": "the scale of each view's codes",
    "soft_probs": "the distiller's own label of the whole image: probabilities",
    "soft_logits": "the distiller's own label of the whole image: logits",
    "soft_targets": "the distiller's own label of the whole image: regression targets",
    "view_box": "where each view lies: y, x, height, width, in pixels",
    "view_flip": "which views are mirrored left to right, after resizing",
    "view_present": "which views have a label",
}
"""What each column holds, as the end of a sentence."""
