"""Augmentation of the students' pictures: drawn on the host from (seed, step), done on the device, batch by batch."""
