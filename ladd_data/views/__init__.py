"""Views: a pure function (image, view number) -> pixels. Never of a batch, a random state or a device."""
