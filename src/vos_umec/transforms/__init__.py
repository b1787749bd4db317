"""What is done to frames before the network sees them: Phi, augmentation, copy-paste, color."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
