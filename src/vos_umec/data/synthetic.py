"""The embedded data set: synthetic videos with exact masks, made on the spot instead of downloaded."""

import hashlib
import json
import logging
from pathlib import Path

from vos_umec.data.sequences import VideoSequence
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path

log = logging.getLogger(__name__)

_RECIPE = 1  # raise it when the same settings give other videos
_FPS = 24.0
_SPLITS = ("train", "val")


class SyntheticVOS:
    """Textured, deforming objects under a moving camera, as h264 videos; a default that needs no download.

    Training videos come without masks. Validation videos are of other seeds and have a mask on every frame;
    the ids of the first frame are the objects, and each shows at least 1 % of the area there.

    Args:
        root: Folder for the data sets; each group of settings has a folder of its own below it.
        train_videos: Videos without masks, at least 1.
        val_videos: Videos with masks, at least 0.
        frames: Frames per video, at least 2.
        size: Height and width, even numbers of at least 32.
        seed: Of everything drawn at random; at least 0.
        objects: Fewest and most labelled objects in a video, 1 to 6.

    Raises:
        ConfigError: A setting is out of range.

    Example:
        >>> data = SyntheticVOS("data/synthetic")
        >>> data.train_root.name, data.train_root.parent.parent.as_posix()
        ('train', 'data/synthetic')
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
        _require(train_videos >= 1, "train_videos", train_videos, "at least 1")
        _require(val_videos >= 0, "val_videos", val_videos, "at least 0")
        _require(frames >= 2, "frames", frames, "at least 2")
        _require(
            len(size) == 2 and all(n >= 32 and n % 2 == 0 for n in size),
            "size",
            size,
            "height and width, both even (h264 needs it) and at least 32",
        )
        _require(seed >= 0, "seed", seed, "at least 0")
        _require(
            len(objects) == 2 and 1 <= objects[0] <= objects[1] <= 6,
            "objects",
            objects,
            "the fewest and the most objects of a video, from 1 to 6",
        )
        self._counts = dict(zip(_SPLITS, (train_videos, val_videos), strict=True))
        self.frames = frames
        self.size = (size[0], size[1])
        self.seed = seed
        self.objects = (objects[0], objects[1])
        self._settings = {
            "recipe": _RECIPE,
            "videos": self._counts,
            "frames": frames,
            "size": list(size),
            "seed": seed,
            "objects": list(objects),
        }
        key = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()[:10]
        self.folder = Path(root) / f"synthetic-{key}"

    @property
    def train_root(self) -> Path:
        """Folder of the training videos, ``.mp4`` files and nothing else."""
        return self.folder / "train"

    def prepare(self) -> None:
        """Make the videos, unless they are there already.

        Every file appears whole or not at all, and the manifest is written last: a set that was interrupted,
        or lost a file, is made again. Two processes that prepare the same set at once write the same files.

        Raises:
            ConfigError: ``objects`` asks for more objects than fit into the frame.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as root:
            ...     data = SyntheticVOS(root, train_videos=1, val_videos=1, frames=2, size=(32, 48))
            ...     data.prepare()
            ...     [path.name for path in sorted(data.train_root.iterdir())]
            ['train_000.mp4']
        """
        missing = self._missing()
        if not missing:
            return
        if self._manifest not in missing:
            log.warning("%s lost %d files, e.g. %s: making it again", self.folder, len(missing), missing[0].name)
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)  # commands keep stdout for results
        for name in track(self._names(), "Making synthetic videos", transient=True, console=console):
            self._write_video(*name)
        with atomic_path(self._manifest) as temporary:
            temporary.write_text(json.dumps(self._settings, indent=2), encoding="utf-8")
        log.info("made %s: %d training and %d validation videos", self.folder, *self._counts.values())

    def val_sequences(self) -> list[VideoSequence]:
        """The held-out videos.

        Returns:
            One sequence per video: its path is the ``.mp4`` file, every frame has a mask, the first is given.

        Raises:
            DataError: The set was not made yet.

        Example:
            >>> SyntheticVOS("no/such/folder").val_sequences()  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            vos_umec.errors.DataError: no whole synthetic set in no/such/folder/...; call prepare() first
        """
        missing = self._missing()
        if missing:
            raise DataError(
                f"no whole synthetic set in {self.folder}: {len(missing)} files are missing; call prepare() first"
            )
        sequences = []
        for split, index in self._names():
            if split == "val":
                annotations = {t: self._mask_path(index, t) for t in range(self.frames)}
                video = self._video_path(split, index)
                sequences.append(VideoSequence(video.stem, video, annotations, prompts={0: annotations[0]}))
        return sequences

    def _names(self) -> list[tuple[str, int]]:
        return [(split, index) for split, count in self._counts.items() for index in range(count)]

    def _video_path(self, split: str, index: int) -> Path:
        return self.folder / split / f"{split}_{index:03d}.mp4"

    def _mask_path(self, index: int, t: int) -> Path:
        return self.folder / "annotations" / f"val_{index:03d}" / f"{t:05d}.png"

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def _missing(self) -> list[Path]:
        masks = [self._mask_path(i, t) for i in range(self._counts["val"]) for t in range(self.frames)]
        videos = [self._video_path(split, index) for split, index in self._names()]
        return [path for path in (self._manifest, *videos, *masks) if not path.is_file()]

    def _write_video(self, split: str, index: int) -> None:
        from vos_umec.data.synthetic_scene import Scene
        from vos_umec.io.masks import write_mask
        from vos_umec.io.video_writer import VideoWriter

        scene = Scene.sample([self.seed, _SPLITS.index(split), index], self.size, self.frames, self.objects)
        path = self._video_path(split, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A short group of pictures: clips start anywhere, and decoding starts at the key frame before.
        with VideoWriter(path, _FPS, gop=8) as video:
            for t, (frame, ids) in enumerate(scene):
                video.write(frame)
                if split == "val":
                    mask = self._mask_path(index, t)
                    mask.parent.mkdir(parents=True, exist_ok=True)
                    write_mask(mask, ids)


def _require(good: bool, name: str, found: object, expected: str) -> None:
    if not good:
        raise ConfigError(f"{name} of the synthetic set is {found}: expected {expected}")
