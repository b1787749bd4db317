"""Clips for training, annotated sequences for evaluation, the pseudo-mask store, the data modules."""
