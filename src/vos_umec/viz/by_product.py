"""By-products, such as pictures, that never stop what they come with."""

import logging

from vos_umec.errors import VosUmecError

log = logging.getLogger(__name__)


class ByProduct:
    """Something beside the result: if its `with` block fails, a warning says that there is none, and why.

    Args:
        name: What the block makes, such as the path of a picture.

    Example:
        >>> with ByProduct("picture.png"):
        ...     raise OSError("no space left")
    """

    def __init__(self, name: object) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, VosUmecError | OSError | ValueError):  # the last one of Pillow and matplotlib
            return False
        log.warning("no %s: %s; all else goes on", self._name, error)
        return True
