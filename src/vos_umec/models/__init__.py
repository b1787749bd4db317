"""The networks, pure torch: encoder E, frame-mask encoder V, decoder D, and UMEC, which joins them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
