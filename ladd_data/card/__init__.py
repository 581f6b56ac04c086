"""The face of a dataset: README.md, a picture of samples, and Croissant metadata, all made from the manifest."""
