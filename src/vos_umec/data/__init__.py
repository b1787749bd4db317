"""Training clips and annotated sequences: any folder of videos, YouTube-VOS, DAVIS, made video."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
