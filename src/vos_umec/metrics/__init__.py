"""J, F and J&F by the rules of DAVIS and YouTube-VOS."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
