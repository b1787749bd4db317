"""Segmenting a video from a mask: memory, read-out, refinement, one call a frame; no Lightning."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
