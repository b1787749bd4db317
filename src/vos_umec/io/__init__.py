"""Frames in, masks out: video files, folders of frames, mask files, result zips."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
