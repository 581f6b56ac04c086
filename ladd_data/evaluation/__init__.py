"""The evaluation room: a set tested by the papers' protocols, beside controls that tell labels from images."""
