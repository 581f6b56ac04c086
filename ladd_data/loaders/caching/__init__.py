"""The cached loader, and the user's cache of decoded datasets."""
