"""Projectors: labels that a small network upon a public backbone makes on the fly (HeLlO)."""
