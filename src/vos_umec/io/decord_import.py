"""Importing decord without what it drags along."""

import sys
from types import ModuleType


def import_decord() -> ModuleType:
    """Import decord for decoding on the CPU, quiet.

    When decord2 is imported it opens every CUDA library that pip has installed, for all of the process. One of
    them, libnvblas, then takes over the BLAS calls of faiss, which ends in a crash. Decoding on the CPU needs none
    of them, so the package ``nvidia``, where it looks for them, is hidden for that moment.

    Returns:
        The module.

    Example:
        >>> import_decord().__name__
        'decord'
    """
    loaded = sys.modules.get("decord")
    if loaded is not None:
        return loaded
    missing = object()
    shown = sys.modules.get("nvidia", missing)
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # what importlib takes for "cannot be found"
    try:
        import decord
    finally:
        if shown is missing:
            del sys.modules["nvidia"]
        else:
            sys.modules["nvidia"] = shown  # type: ignore[assignment]
    decord.logging.set_level(decord.logging.QUIET)
    module: ModuleType = decord
    return module
