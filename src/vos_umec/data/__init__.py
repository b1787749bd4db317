"""Clips for training, sequences for evaluation, the pseudo-mask store, the transformation Phi."""
