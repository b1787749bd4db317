"""Reading along the affinity: from the cells of reference frames to those of a query frame."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
