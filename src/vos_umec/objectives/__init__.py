"""What the network learns from: correspondence objectives, and L_seg with masks propagated through a clip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
