"""Loaders: records at device speed, in an order that is a pure function of (seed, epoch)."""
