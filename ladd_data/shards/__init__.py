"""Bytes <-> records: the folder that a dataset is, and the containers its records live in."""
