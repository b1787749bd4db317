"""Copy a folder of videos as small JPEG frames, which training reads many times faster.

Example:
    vos-umec prepare my_videos --out my_copy --short-side 360
    vos-umec fit --config configs/folder.yaml --data.root my_copy

Start it again after an interruption: it copies only what is missing or has changed.
"""

from pathlib import Path
from typing import Any

from vos_umec.data.preparation import prepare

SETTINGS = {"how to copy": (prepare,)}


def run(videos: Path, *, out: Path, **settings: Any) -> None:
    """Make the copy, or what is missing of it, and print what was done.

    Args:
        videos: A folder of videos and frame folders, searched at any depth.
        out: Folder of the copy, outside VIDEOS; give it to --data.root. A copy of a video that has changed since is
            made anew, unless it holds files that vos-umec did not write.
        **settings: Further arguments of `vos_umec.data.preparation.prepare`.
    """
    done = prepare(videos, out, **settings)
    for path, reason in done.broken:
        print(f"left out {path}: {reason}")
    counts = f"{len(done.copied)} videos copied, {len(done.kept)} already there, {len(done.broken)} left out"
    print(f"{counts}; train on them with --data.root {out}")
