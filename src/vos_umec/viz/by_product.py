"""By-products, such as pictures, that never stop what they come with."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vos_umec.errors import VosUmecError

log = logging.getLogger(__name__)


@contextmanager
def by_product(name: object) -> Iterator[None]:
    """Make something beside the result: if the block fails, a warning says that there is no `name`, and why.

    Example:
        >>> with by_product("picture.png"):
        ...     raise OSError("no space left")
    """
    try:
        yield
    except (VosUmecError, OSError, ValueError) as error:  # the last one of Pillow and matplotlib
        log.warning("no %s: %s; all else goes on", name, error)
