"""Values that several rooms share."""

IGNORE = 255
"""Segment or object id of pixels of which nothing is known; never an object (DAVIS calls it void)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of R, G and B in [0, 1] by which frames are normalised, as in all published ResNets."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of R, G and B in [0, 1]."""
