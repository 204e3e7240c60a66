"""Training: from images and a loss to an encoder, and from that to a classifier with its heads."""
