"""Data set of synthetic videos with exact masks, made on the spot instead of downloaded."""

import hashlib
import json
import logging
from pathlib import Path

from vos_umec.data.sequences import VideoSequence
from vos_umec.data.synthetic.scene import Scene
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.masks import write_mask
from vos_umec.io.video_writer import VideoWriter
from vos_umec.progress import progress

log = logging.getLogger(__name__)

_RECIPE = 2  # raise it when the same settings give other videos


class SyntheticVOS:
    """Textured, deforming objects under a moving camera, as h264 videos; it needs no download.

    Training videos come without masks. Validation videos have other seeds and a mask on every frame; the ids of
    the first frame are the objects, and each shows at least 1 % of the area there.

    Args:
        root: Folder for the data sets; each group of settings has a folder of its own below it.
        train_videos: Videos without masks, at least 1.
        val_videos: Videos with masks, at least 0.
        frames: Frames per video, at least 2.
        size: Height and width, even numbers of at least 32.
        seed: Of everything drawn at random, at least 0.
        objects: Fewest and most labeled objects in a video, 1 to 6.

    Attributes:
        folder: The folder of these settings.
        train_root: Its folder of training videos, which holds `.mp4` files and nothing else.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        train_videos: int = 24,
        val_videos: int = 6,
        frames: int = 40,
        size: tuple[int, int] = (192, 320),
        seed: int = 0,
        objects: tuple[int, int] = (1, 3),
    ) -> None:
        good_size = len(size) == 2 and all(n >= 32 and n % 2 == 0 for n in size)
        good_objects = len(objects) == 2 and 1 <= objects[0] <= objects[1] <= 6
        settings: dict[str, object] = {"recipe": _RECIPE}
        for name, found, good, expected in (
            ("train_videos", train_videos, train_videos >= 1, "at least 1"),
            ("val_videos", val_videos, val_videos >= 0, "at least 0"),
            ("frames", frames, frames >= 2, "at least 2"),
            ("size", size, good_size, "height and width, both even (h264 needs it) and at least 32"),
            ("seed", seed, seed >= 0, "at least 0"),
            ("objects", objects, good_objects, "the fewest and the most objects of a video, from 1 to 6"),
        ):
            if not good:
                raise ConfigError(f"{name} of the synthetic set is {found}: expected {expected}")
            settings[name] = found
        self._frames = frames
        self._size = (size[0], size[1])
        self._objects = (objects[0], objects[1])
        self._settings = json.dumps(settings)
        self.folder = Path(root) / f"synthetic-{hashlib.sha256(self._settings.encode()).hexdigest()[:10]}"
        self.train_root = self.folder / "train"
        self._manifest = self.folder / "manifest.json"
        self._seeds = {self.train_root / f"train_{i:03d}.mp4": [seed, 0, i] for i in range(train_videos)}
        self._seeds |= {self.folder / "val" / f"val_{i:03d}.mp4": [seed, 1, i] for i in range(val_videos)}

    def prepare(self) -> None:
        """Make the videos, unless they are there already.

        Every file appears whole or not at all, and the manifest is written last: a set that was interrupted, or
        lost a file, is made again. Two processes that prepare the same set at once write the same files.

        Raises:
            ConfigError: `objects` asks for more objects than fit into the frame.
        """
        missing = self._missing()
        if not missing:
            return
        if self._manifest not in missing:
            log.warning("%s lost %d files, e.g. %s: making it again", self.folder, len(missing), missing[0].name)
        for path in progress(self._seeds, "making synthetic videos"):
            self._write_video(path)
        with atomic_path(self._manifest) as temporary:
            temporary.write_text(self._settings, encoding="utf-8")
        log.info("made %d synthetic videos in %s", len(self._seeds), self.folder)

    def val_sequences(self) -> list[VideoSequence]:
        """The validation videos, each with a mask on every frame, of which the first is the prompt.

        Raises:
            DataError: The set was not made yet.
        """
        missing = self._missing()
        if missing:
            raise DataError(
                f"no whole synthetic set in {self.folder}: {len(missing)} files are missing; call prepare() first"
            )
        masks = {path: self._masks(path) for path in self._seeds}
        return [VideoSequence(path.stem, path, ids, prompts={0: ids[0]}) for path, ids in masks.items() if ids]

    def _masks(self, path: Path) -> dict[int, Path]:
        """Where the masks of a video are, by frame; none for a training video."""
        folder = self.folder / "annotations" / path.stem
        frames = 0 if path.parent == self.train_root else self._frames
        return {t: folder / f"{t:05d}.png" for t in range(frames)}

    def _missing(self) -> list[Path]:
        masks = [mask for path in self._seeds for mask in self._masks(path).values()]
        return [path for path in (self._manifest, *self._seeds, *masks) if not path.is_file()]

    def _write_video(self, path: Path) -> None:
        scene = Scene.sample(self._seeds[path], self._size, self._frames, self._objects)
        masks = self._masks(path)
        for folder in {path.parent, *(mask.parent for mask in masks.values())}:
            folder.mkdir(parents=True, exist_ok=True)
        # A short group of pictures: clips start anywhere, and decoding starts at the key frame before.
        with VideoWriter(path, fps=24.0, gop=8) as video:
            for t, (frame, ids) in enumerate(scene):
                video.write(frame)
                if masks:
                    write_mask(masks[t], ids)
