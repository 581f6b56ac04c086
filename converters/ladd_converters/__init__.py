"""Converters: one foreign layout a file. They import the front door of `ladd_data` and nothing behind it."""
