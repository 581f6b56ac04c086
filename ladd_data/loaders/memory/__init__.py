"""Loaders of datasets that are decoded into memory: on the device, or pinned."""
