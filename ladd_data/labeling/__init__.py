"""The labeling room: train a labeler on real images, then let it label every view of a distilled set."""
