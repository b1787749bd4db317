"""UMECModule, its callbacks, and how it is scored beside baselines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
