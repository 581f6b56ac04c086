"""The deployment room: train students on a distilled set and test them on real images."""
