"""Draw objects on a video in the browser, and follow, correct and download them; served to this machine alone.

Example:
    vos-umec app                                  # then open a video in the browser
    vos-umec app clip.mp4 --short-side 240        # quicker, less exact
    vos-umec app frames/ --checkpoint mine.ckpt
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

from vos_umec.cli.shared import SEGMENTER, nested_readout
from vos_umec.device import pick_device
from vos_umec.errors import MissingDependencyError

log = logging.getLogger(__name__)
SETTINGS = SEGMENTER


def run(
    video: Path | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    sessions: Path = Path("~/.vos_umec/sessions"),
    port: int = 8471,
    browser: bool = True,
    fast: bool = False,
    **settings: Any,
) -> None:
    """Serve the app on 127.0.0.1 until Ctrl+C.

    Args:
        video: A video file or a folder of frames to open; without one, the browser asks. Work on it that was begun
            before is opened again.
        checkpoint: A .ckpt or .safetensors file, a folder or a name on the Hub; without it, vos_umec's own.
        device: auto, cpu, cuda, cuda:1 or mps.
        sessions: The folder where the work is saved, one folder a video.
        port: The port on 127.0.0.1; 0 for any free one.
        browser: Open the browser.
        fast: Search from coarse to fine and near the objects: on a CPU a frame takes a third of the time, and
            scores are 0.3 J&F lower.
        **settings: Arguments of `VideoSegmenter.from_protocol` and of `Readout` that replace the model's own.
    """
    try:
        from vos_umec.app.follow import Model
        from vos_umec.app.server import AppServer, serve
        from vos_umec.app.store import SessionStore
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise MissingDependencyError("the app needs aiohttp: pip install 'vos-umec[app]'") from error
    model = Model(checkpoint, pick_device(device), nested_readout(settings), fast)
    store = SessionStore(sessions.expanduser())
    session = None
    if video is not None:
        session = store.of_video(video)
        if session is not None:
            print(f"goes on with the work on {video} that was begun before", flush=True)
        else:
            session = store.create(video)
    try:
        asyncio.run(serve(AppServer(store, model, port), None if session is None else session.id, browser))
    except KeyboardInterrupt:
        print("\nended; what you did is saved")
