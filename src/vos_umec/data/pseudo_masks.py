"""Pseudo masks on disk, in generations that replace each other all at once."""

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
# What numpy and zipfile raise of a damaged file; MemoryError where its header states a huge shape.
_BROKEN = (OSError, EOFError, ValueError, KeyError, NotImplementedError, MemoryError, BadZipFile, ZlibError)
_NAME_LIMIT = 200  # bytes; file systems stop at 255, and the temporary name is longer


class PseudoMaskStore:
    """Space-time segments of the training videos, one generation per clustering (UMEC section 3.1).

    To add a generation, call `begin`, `write` for each video, `commit`, then `reload`. Masks are collected in a
    temporary folder; the manifest, replaced in one atomic step, names the current generation. A process killed at
    any moment leaves the last complete generation current. The generation before it stays on disk, because workers
    may still be reading it.

    The number of the current generation is in shared memory: data-loader workers, persistent ones too, see a
    `reload` of the process that started them.

    Args:
        root: Folder of the store; made by the first `begin`.

    Attributes:
        needed: Number of the generation that the last checkpoint was written with, which stays on disk, too; 0 for
            none.

    Raises:
        DataError: The manifest there is broken, or its generation is missing.

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
        self.needed = 0
        self._last = 0  # of the manifest, hidden or not
        self._manifest: dict[str, Any] = {}
        self.reload()

    @property
    def generation(self) -> int:
        """Number of the current generation, 0 before the first; the same in all workers of this process."""
        return int(self._counter.item())

    @property
    def next(self) -> int:
        """Number for a new generation, above all that were committed here."""
        return self._last + 1

    @property
    def manifest(self) -> dict[str, Any]:
        """The values passed to `commit`, `generation` and the number of `videos`, as of the last `reload`."""
        return dict(self._manifest)

    def begin(self, generation: int) -> None:
        """Make the empty temporary folder of a new generation, numbered `store.next`.

        One process calls it, before any process calls `write`.

        Raises:
            ConfigError: The number is not above the current one.
        """
        self._require_new(generation)
        for folder in (self._pending(generation), self._folder(generation)):
            shutil.rmtree(folder, ignore_errors=True)
        self._pending(generation).mkdir(parents=True, exist_ok=True)

    def write(
        self, generation: int, video_id: str, frame_indices: NDArray[np.int64], segments: NDArray[np.uint8]
    ) -> None:
        """Add the segments of one video to a new generation; any process may write.

        Args:
            generation: Number passed to `begin`.
            video_id: Id of the video in the index; any text.
            frame_indices: (T,) frame numbers in ascending order, T >= 1.
            segments: (T, h, w) uint8 segment ids at any resolution, 255 where nothing is known.

        Raises:
            ConfigError: A shape, a type or the order is wrong, or `begin` was not called.
        """
        indices = np.asarray(frame_indices, dtype=np.int64)
        if segments.dtype != np.uint8 or segments.ndim != 3 or not len(segments) == len(indices) > 0:
            raise ConfigError(
                f"segments of {video_id} are {segments.shape} {segments.dtype} for {len(indices)} frames; "
                "expected (T, h, w) uint8 with one map per frame"
            )
        if (np.diff(indices) <= 0).any():
            raise ConfigError(
                f"frame indices of {video_id} are not in ascending order: {indices.tolist()}; sort them"
            )
        pending = self._pending(generation)
        if not pending.is_dir():
            raise ConfigError(
                f"generation {generation} has no folder {pending}; call begin({generation}) first. If it was "
                "called, another process has failed and discarded the generation: see its error"
            )
        frames = {str(i): segment for i, segment in zip(indices.tolist(), segments, strict=True)}
        with atomic_path(pending / _file_name(video_id)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, frame_indices=indices, **frames)

    def discard(self, generation: int) -> None:
        """Delete a generation that was begun, after a failure; then `write` fails in other processes, too."""
        shutil.rmtree(self._pending(generation), ignore_errors=True)

    def commit(self, generation: int, manifest: Mapping[str, Any]) -> None:
        """Make a generation the current one and delete all but the one before it and the one that is `needed`.

        One process calls it, after all videos are written; then each process calls `reload`. The `manifest` holds
        facts to keep about the generation (checkpoint, number of clusters, seed, ...), as JSON values.

        Raises:
            ConfigError: The number is not above the current one.
            DataError: No video was written.
        """
        self._require_new(generation)
        pending, previous = self._pending(generation), self.generation
        videos = len(list(pending.glob("*.npz")))
        if not videos:
            raise DataError(f"no pseudo mask in {pending}: write at least one video before the commit")
        pending.replace(self._folder(generation))
        self._write_manifest({**manifest, "generation": generation, "videos": videos})
        # Killed before this line, the old generation is current; after it, the new one.
        kept = {self._folder(number) for number in (generation, previous, self.needed)}
        for folder in set(self.root.glob("generation_*")) - kept:
            shutil.rmtree(folder, ignore_errors=True)

    def reload(self) -> int:
        """Read the manifest again, and return the generation that this process and its workers use from now on.

        Raises:
            DataError: The manifest is broken, or its generation is missing.
        """
        path = self.root / _MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            generation = int(manifest["generation"])
        except FileNotFoundError:
            manifest, generation = {}, 0
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a manifest of pseudo masks ({error}); remove {self.root}") from error
        if generation and not self._folder(generation).is_dir():
            raise DataError(f"{path} names generation {generation}, which does not exist; remove {self.root}")
        self._manifest = manifest
        self._counter.fill_(generation)
        self._last = generation
        return generation

    def adopt(self, other: "PseudoMaskStore", generation: int) -> None:
        """Copy a generation from the store of a resumed run and make it current; do nothing if it is missing there.

        One process calls it; then each process calls `reload`.
        """
        if other._folder(generation).is_dir():
            self.begin(generation)
            shutil.copytree(other._folder(generation), self._pending(generation), dirs_exist_ok=True)
            self.commit(generation, other.manifest if generation == other.generation else {})

    def rewind(self, generation: int) -> None:
        """Make an earlier generation current again, for a resumed run; do nothing if it is not an earlier one.

        With 0, or if its masks are deleted, no generation is current. The manifest then knows only the number of
        videos. One process calls it; then each process calls `reload`.
        """
        folder = self._folder(generation)
        if generation >= self.generation:
            return
        if generation and folder.is_dir():
            self._write_manifest({"generation": generation, "videos": len(list(folder.glob("*.npz")))})
        else:
            (self.root / _MANIFEST).unlink()

    def hide(self) -> None:
        """Use no generation in this process and its workers until the next `reload`; no file is deleted."""
        self._manifest = {}
        self._counter.fill_(0)

    def frame_indices(self, video_id: str, generation: int | None = None) -> NDArray[np.int64]:
        """Frames of a video that have segments: (T,) numbers in ascending order, empty if there are none.

        Pass the same generation (None for the current one) to `read`, because it may change between the two calls.

        Raises:
            DataError: The file is broken.
        """
        path = self._file(video_id, generation)
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
        """Segments (T, h, w) uint8 of some frames of a video, as written; only these are decompressed.

        Args:
            video_id: Id passed to `write`.
            frame_indices: (T,) frame numbers, T >= 1, in any order, repeats allowed.
            generation: Number to read; None for the current one.

        Raises:
            DataError: The video has no segments, or none for one of these frames, or the file is broken.
        """
        path = self._file(video_id, generation)
        try:
            with np.load(path) as archive:
                frames = {i: archive[str(i)] for i in {int(i) for i in frame_indices}}
        except _BROKEN as error:
            wanted = np.asarray(frame_indices).tolist()
            raise DataError(f"no pseudo masks of {video_id} for frames {wanted} in {path} ({error})") from error
        return np.stack([frames[int(i)] for i in frame_indices])

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        with atomic_path(self.root / _MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2), encoding="utf-8")

    def _require_new(self, generation: int) -> None:
        if generation <= self.generation:
            raise ConfigError(
                f"generation {generation} of {self.root} is not above the current one, {self.generation}; "
                "number it store.next"
            )

    def _file(self, video_id: str, generation: int | None) -> Path:
        return self._folder(self.generation if generation is None else generation) / _file_name(video_id)

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
