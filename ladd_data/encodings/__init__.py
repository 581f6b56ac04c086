"""Soft labels to stored numbers and back: one file an encoding, and what the storing cost.

A `Coding` says how a label set is stored. Every encoding has one normative rule that decodes it (spec,
section 6), and decoders widen to float32 before any arithmetic. No torch here; the loaders' torch
decoders (loaders/decode.py) are tested against these.
"""
