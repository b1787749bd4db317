"""vos_umec: self-supervised video object segmentation by unified mask embedding and correspondence learning.

The names of `__init__.pyi` can be imported from here, and those of each room from the room, as in
`from vos_umec.objectives import DenseContrastObjective`. Nothing is loaded before it is used.
"""

import os
from importlib.metadata import version
from typing import Any

import lazy_loader

# OpenMP's threads spin while they wait, which makes everything two to five times slower where cores are busy, as
# they are with loader workers. A short spin costs nothing elsewhere. It has to be set before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    return version("vos-umec") if name == "__version__" else _getattr(name)
