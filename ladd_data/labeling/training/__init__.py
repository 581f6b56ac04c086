"""Train a labeler from scratch on real images, in one process or several, to the same bytes after an interruption."""
