"""Names the video at which a loader worker crashed: the worker itself is gone, and can tell nothing."""

import os
import re
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import get_worker_info

_LONGEST = 4096  # bytes of a path, as on Linux
_PID = re.compile(r"pid(?:\(s\))? ([0-9]+)")
_tables: deque["ReadingTable"] = deque(maxlen=8)  # of the loaders made last: that of a failed run may be freed


class ReadingTable:
    """The video that each worker of a loader reads, in memory that the parent process sees, too.

    Args:
        workers: Number of the workers.
    """

    def __init__(self, workers: int) -> None:
        # A row has the process id, the length of the path, the path.
        self._rows = torch.zeros(workers, 8 + 8 + _LONGEST, dtype=torch.uint8).share_memory_()
        _tables.append(self)

    def note(self, video: Path) -> None:
        """Say in a worker that it reads a video from now on; without effect in other processes."""
        info: Any = get_worker_info()  # torch has no type for it
        if info is None:
            return
        path = os.fsencode(video)[:_LONGEST]
        row = os.getpid().to_bytes(8, "little") + len(path).to_bytes(8, "little") + path
        self._rows[info.id, : len(row)] = torch.frombuffer(bytearray(row), dtype=torch.uint8)

    def video_of(self, pid: int) -> Path | None:
        """The video that the worker of a process id reads or read last."""
        for row in self._rows.numpy():
            if int.from_bytes(row[:8].tobytes(), "little") == pid:
                length = int.from_bytes(row[8:16].tobytes(), "little")
                return Path(os.fsdecode(row[16 : 16 + length].tobytes()))
        return None


def crashed_at(message: str) -> Path | None:
    """The video that a worker read when it ended.

    Args:
        message: torch's own, which has the worker's process id: `DataLoader worker (pid 7) is killed by ...`.

    Returns:
        The video; None if that worker has noted none.
    """
    pid = _PID.search(message)
    videos = [] if pid is None else [table.video_of(int(pid[1])) for table in _tables]
    return next((video for video in videos if video is not None), None)
