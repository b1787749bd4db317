"""Transformations of clips on the device: Phi, augmentation, copy-paste, color spaces."""
