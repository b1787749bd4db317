"""An open decoder belongs to the process that opened it."""

import ctypes
import gc
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

H = TypeVar("H")

# What a parent has let go of in a circle, as a caught error does with the decoder in its traceback, a child must
# not free either: it would wait for threads that did not come along. Frozen before the fork, not after it, where
# hooks of other modules come first and may well set off the search for circles.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)


class ProcessHandle(Generic[H]):
    """A handle that is opened lazily, once in every process, and never travels by fork or pickle.

    Decoders hold threads. Threads do not survive a fork, so a decoder inherited from the parent hangs when it
    is used, and also when it is freed, for then it waits for its threads. An inherited handle is therefore
    never touched again: it stays allocated until the process ends.

    Example:
        >>> import pickle
        >>> handle = ProcessHandle()
        >>> handle.get(list) is handle.get(list)
        True
        >>> pickle.loads(pickle.dumps(handle)).get(list) is handle.get(list)
        False
    """

    def __init__(self) -> None:
        self._handle: H | None = None
        self._pid = 0

    def get(self, opener: Callable[[], H]) -> H:
        """Give this process's handle, opened on first use.

        Args:
            opener: Opens one; called at most once per process as long as nothing is dropped.
        """
        if self._handle is not None and self._pid == os.getpid():
            return self._handle
        self.drop()
        self._handle, self._pid = opener(), os.getpid()
        return self._handle

    def drop(self) -> None:
        """Let go of the handle: close it if it is this process's own, else leave it where it is."""
        if self._handle is not None and self._pid != os.getpid():
            # One reference more than anyone will ever give back, so that its destructor never runs here.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._handle))
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_handle": None, "_pid": 0}

    def __del__(self) -> None:
        self.drop()
