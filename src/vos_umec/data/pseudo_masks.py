"""Pseudo masks on disk, in generations that come into force all at once."""

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import torch
from numpy.typing import NDArray

from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path

_MANIFEST = "manifest.json"
_BROKEN = (OSError, EOFError, ValueError, KeyError, NotImplementedError, BadZipFile, ZlibError)  # of a damaged file
_NAME_LIMIT = 200  # bytes; file systems stop at 255, and the temporary name is longer


class PseudoMaskStore:
    """Space-time segments of the training videos, one generation per clustering (UMEC section 3.1).

    A refresh calls `begin`, `write` for each video, `commit`, then `reload`. Masks are
    gathered in a temporary folder; the manifest, replaced in one atomic step, names the generation in force.
    A process killed at any moment leaves the last whole generation in force. The generation before it stays on
    disk, so that a reader in the middle of a clip is never robbed.

    The number of the generation lies in shared memory: data-loader workers see a `reload` made in
    the process that started them, persistent workers too.

    Args:
        root: Folder of the store; made by the first `begin`.

    Raises:
        DataError: The manifest there is broken, or its generation is gone.

    Example:
        >>> import tempfile
        >>> store = PseudoMaskStore(tempfile.mkdtemp())
        >>> store.begin(1)
        >>> store.write(1, "zoo/bear.mp4", np.array([0, 4]), np.full((2, 3, 5), 2, np.uint8))
        >>> store.generation
        0
        >>> store.commit(1, {"clusters": 5})
        >>> store.reload(), store.frame_indices("zoo/bear.mp4").tolist()
        (1, [0, 4])
        >>> store.read("zoo/bear.mp4", [4]).shape
        (1, 3, 5)
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._counter = torch.zeros((), dtype=torch.int64).share_memory_()
        self._last = 0  # of the manifest, hidden or not
        self._manifest: dict[str, Any] = {}
        self.reload()

    @property
    def generation(self) -> int:
        """Number of the generation in force, 0 before the first; the same in all workers of this process."""
        return int(self._counter.item())

    @property
    def next(self) -> int:
        """Number for a new generation, above all that were committed here."""
        return self._last + 1

    @property
    def manifest(self) -> dict[str, Any]:
        """What `commit` was given, with ``generation`` and the number of ``videos``; as last reloaded."""
        return dict(self._manifest)

    def begin(self, generation: int) -> None:
        """Make the temporary place of a new generation, free of what a killed run may have left there.

        Call it before the first `write`, in one process, or in several with a barrier after it.

        Args:
            generation: Its number, above the one in force: ``store.next``.

        Raises:
            ConfigError: The number is not above the one in force.
        """
        self._require_new(generation)
        for folder in (self._pending(generation), self._folder(generation)):
            shutil.rmtree(folder, ignore_errors=True)
        self._pending(generation).mkdir(parents=True, exist_ok=True)

    def write(
        self, generation: int, video_id: str, frame_indices: NDArray[np.int64], segments: NDArray[np.uint8]
    ) -> None:
        """Add the segments of one video to a generation that was begun; any process may write.

        Args:
            generation: Number given to `begin`.
            video_id: Id of the video in the index; any text.
            frame_indices: (T,) ascending frame numbers, T >= 1.
            segments: (T, h, w) uint8 segment ids, 255 where nothing is known; at any resolution.

        Raises:
            ConfigError: Shapes or types do not fit, or the generation was not begun.
        """
        indices = np.asarray(frame_indices, dtype=np.int64)
        if segments.dtype != np.uint8 or segments.ndim != 3 or not len(segments) == len(indices) > 0:
            raise ConfigError(
                f"segments of {video_id} are {segments.shape} {segments.dtype} for {len(indices)} frames; "
                "expected (T, h, w) uint8 with one map a frame"
            )
        if (np.diff(indices) <= 0).any():
            raise ConfigError(f"frame indices of {video_id} do not ascend: {indices.tolist()}; sort them")
        pending = self._pending(generation)
        if not pending.is_dir():
            raise ConfigError(f"generation {generation} has no folder {pending}; call begin({generation}) first")
        frames = {str(i): segment for i, segment in zip(indices.tolist(), segments, strict=True)}
        with atomic_path(pending / _file_name(video_id)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, frame_indices=indices, **frames)

    def commit(self, generation: int, manifest: Mapping[str, Any]) -> None:
        """Put a generation in force and drop all but the one before. One process only; then reload everywhere.

        Args:
            generation: Number given to `begin`; all its videos are written.
            manifest: What to remember of it (checkpoint, M, weight of position, seed, ...), as JSON values.

        Raises:
            ConfigError: The number is not above the one in force.
            DataError: No video was written.
        """
        self._require_new(generation)
        pending, previous = self._pending(generation), self.generation
        videos = len(list(pending.glob("*.npz")))
        if not videos:
            raise DataError(f"no pseudo mask in {pending}: write at least one video before the commit")
        pending.replace(self._folder(generation))
        self._put_in_force({**manifest, "generation": generation, "videos": videos})
        # From here on the new generation is in force.
        kept = {self._folder(generation), self._folder(previous)}
        for folder in set(self.root.glob("generation_*")) - kept:
            shutil.rmtree(folder, ignore_errors=True)

    def reload(self) -> int:
        """Read the manifest again and show its generation to this process and its workers.

        Returns:
            Number of the generation in force.

        Raises:
            DataError: The manifest is broken, or its generation is gone.
        """
        path = self.root / _MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            generation = int(manifest["generation"])
        except FileNotFoundError:
            manifest, generation = {}, 0
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a manifest of pseudo masks ({error}); remove the folder") from error
        if generation and not self._folder(generation).is_dir():
            raise DataError(f"{path} names generation {generation}, but it is gone; remove {self.root}")
        self._manifest = manifest
        self._counter.fill_(generation)
        self._last = generation
        return generation

    def adopt(self, other: "PseudoMaskStore", generation: int) -> None:
        """Copy a generation of another store and put it in force here; nothing if it is gone there.

        Args:
            other: The store of the run that is continued. One process only; then reload everywhere.
            generation: The number to copy.

        Raises:
            ConfigError: This store already has that generation or a later one.
        """
        if other._folder(generation).is_dir():
            self.begin(generation)
            shutil.copytree(other._folder(generation), self._pending(generation), dirs_exist_ok=True)
            self.commit(generation, other.manifest if generation == other.generation else {})

    def hide(self) -> None:
        """Have nothing in force in this process and its workers; what is there stays until the next commit."""
        self._manifest = {}
        self._counter.fill_(0)

    def rewind(self, generation: int) -> None:
        """Put an earlier generation in force again, as a resumed run wants it. One process only; then reload.

        Args:
            generation: The number to go back to, 0 for none. Nothing happens if it is not below the one in force;
                if it is gone, nothing is in force after it. What was known of it is not kept.

        Example:
            >>> import tempfile
            >>> store = PseudoMaskStore(tempfile.mkdtemp())
            >>> for number in (1, 2):
            ...     store.begin(number)
            ...     store.write(number, "bear", np.array([0]), np.full((1, 2, 2), number, np.uint8))
            ...     store.commit(number, {})
            ...     _ = store.reload()
            >>> store.rewind(1)
            >>> store.reload(), store.read("bear", [0]).max()
            (1, np.uint8(1))
        """
        folder = self._folder(generation)
        if generation >= self.generation:
            return
        if generation and folder.is_dir():
            self._put_in_force({"generation": generation, "videos": len(list(folder.glob("*.npz")))})
        else:
            (self.root / _MANIFEST).unlink()

    def frame_indices(self, video_id: str, generation: int | None = None) -> NDArray[np.int64]:
        """Frames of a video that have segments.

        Args:
            video_id: Id given to `write`.
            generation: Number to read; the one in force if None. Pass it on to `read`, so that both
                calls see the same one.

        Returns:
            (T,) ascending frame numbers; empty if the video has no segments.

        Raises:
            DataError: The file is broken.
        """
        path = self._folder(self.generation if generation is None else generation) / _file_name(video_id)
        if not path.is_file():
            return np.empty(0, dtype=np.int64)
        try:
            with np.load(path) as archive:
                indices: NDArray[np.int64] = archive["frame_indices"]
        except _BROKEN as error:
            raise DataError(f"pseudo masks {path} are broken ({error}); remove {self.root}") from error
        return indices

    def read(
        self, video_id: str, frame_indices: NDArray[np.int64] | list[int], generation: int | None = None
    ) -> NDArray[np.uint8]:
        """Segments of some frames of a video; only these are decompressed.

        Args:
            video_id: Id given to `write`.
            frame_indices: (T,) frame numbers, T >= 1, in any order, repeats allowed.
            generation: Number to read; the one in force if None.

        Returns:
            (T, h, w) uint8, as written.

        Raises:
            DataError: The video has no segments, or not for one of these frames.
        """
        path = self._folder(self.generation if generation is None else generation) / _file_name(video_id)
        try:
            with np.load(path) as archive:
                frames = {i: archive[str(i)] for i in {int(i) for i in frame_indices}}
        except _BROKEN as error:
            wanted = np.asarray(frame_indices).tolist()
            raise DataError(f"no pseudo masks of {video_id} for frames {wanted} in {path} ({error})") from error
        return np.stack([frames[int(i)] for i in frame_indices])

    def _put_in_force(self, manifest: Mapping[str, Any]) -> None:
        with atomic_path(self.root / _MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2), encoding="utf-8")

    def _require_new(self, generation: int) -> None:
        if generation <= self.generation:
            raise ConfigError(
                f"generation {generation} of {self.root} is not above the one in force, {self.generation}; "
                "number it store.next"
            )

    def _folder(self, generation: int) -> Path:
        return self.root / f"generation_{generation:04d}"

    def _pending(self, generation: int) -> Path:
        return self.root / f"generation_{generation:04d}.tmp"


def _file_name(video_id: str) -> str:
    raw = video_id.encode("utf-8", "surrogateescape")  # file names need not be valid text
    quoted = quote(raw, safe=" ")
    if len(quoted) > _NAME_LIMIT:
        digest = sha256(raw).hexdigest()
        quoted = f"{quoted[: _NAME_LIMIT - len(digest) - 1]}~{digest}"
    return f"{quoted}.npz"
