"""The streaming loader: an order of blocks, and batches that are filled as pages come."""
