"""What `segment` writes: masks, an overlay video, soft masks, run lengths; and the state to resume from."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vos_umec.cli.overlay_movie import OverlayMovie
from vos_umec.cli.prompts import Prompts
from vos_umec.errors import ConfigError, DataError, first_sentence
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.atomic import atomic_path
from vos_umec.io.coco import coco_video
from vos_umec.io.folder import FolderSource
from vos_umec.io.masks import Ids, read_mask
from vos_umec.io.pipeline import WriteBehind
from vos_umec.io.png import indexed_png
from vos_umec.io.source import FrameSource
from vos_umec.io.written import WrittenFiles

log = logging.getLogger(__name__)

STATE = ".vos_umec_state.safetensors"
PARTIAL = ".overlay.partial.mp4"
SAVE_SECONDS = 20.0
"""Time between two states on disk, and so the most work that an interruption costs."""


class Outputs:
    """The files of one run of `segment`.

    Args:
        out: Their folder.
        source: The video.
        prompts: The masks that the user gave.
        backward: Whether frames before the first mask are segmented.
        soft: Write the probabilities of each object.
        rle: Write COCO's run lengths of all masks.
    """

    def __init__(
        self, out: Path, source: FrameSource, prompts: Prompts, backward: bool, soft: bool, rle: bool
    ) -> None:
        self.out = out
        self.source = source
        self.prompts = prompts
        self.soft = soft
        self.rle = rle
        self._names = source.names
        first = prompts.first
        self._order = [*(range(first - 1, -1, -1) if backward else ()), *range(first, len(source))]
        self._written = WrittenFiles(out)
        given = {path.resolve() for path in prompts.files}
        self._kept = {i for i in self._order if self._mask(i).resolve() in given}
        frames = source.files if isinstance(source, FolderSource) else (source.path,)
        self._brought = given | {path.resolve() for path in frames}
        self._movie = out / "overlay.mp4"
        self._asked: dict[str, Any] = {}
        self._saved = time.monotonic()

    @property
    def frames(self) -> int:
        """How many masks a whole run writes."""
        return len(self._order)

    def require_room(self, overwrite: bool) -> None:
        """Raise a DataError if a file that this program did not write would be replaced."""
        masks = [self._mask(index) for index in self._order if index not in self._kept]
        others = [self._movie, *([self.out / "masks.json"] if self.rle else [])]
        others += [self.out / "objects.json"] if self.prompts.origins else []
        ids = sorted({i for mask in self.prompts.masks.values() for i in np.unique(mask).tolist() if 0 < i < 255})
        soft = [self._soft(number, index) for number in ids for index in self._order] if self.soft else []
        targets = [*masks, *others, *soft]
        if hurt := [path for path in targets if path.resolve() in self._brought]:  # even with --overwrite
            raise DataError(f"{hurt[0]} is what you gave, and would be replaced; choose another --out")
        if folders := [path for path in targets if path.is_dir()]:
            raise DataError(f"{folders[0]} is a folder, where a file is to be written; choose another --out")
        if not overwrite:
            self._written.require_own(targets)
        for index in sorted(self._kept):
            log.info("%s is a mask that you gave: it stays as it is", self._mask(index))
        strange = {path.stem for path in (self.out / "masks").glob("*.png")} - set(self._names)
        if strange:
            log.warning(
                "%d masks in %s belong to no frame of this video; they stay", len(strange), self.out / "masks"
            )

    def start(self, asked: Mapping[str, Any]) -> int:
        """Begin at the first frame; 0, the number of frames that are done."""
        self._asked = dict(asked)
        self._sweep()
        if (self.out / STATE).exists():
            log.warning("an interrupted run in %s is begun anew; --resume would have gone on with it", self.out)
            (self.out / STATE).unlink()
        return 0

    def resumed(self, segmenter: VideoSegmenter, asked: Mapping[str, Any]) -> int:
        """Give a segmenter the state of the interrupted run; the number of frames that are done.

        Raises:
            ConfigError: That run had other arguments.
        """
        self._asked = dict(asked)
        self._sweep()
        if not (self.out / STATE).exists():
            print(f"{self.out} holds no interrupted run to resume: this one begins at the first frame", flush=True)
            return 0
        try:
            with safe_open(str(self.out / STATE), "pt") as file:
                about = json.loads(file.metadata()["run"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            changed = [name for name, value in self._asked.items() if about["asked"].get(name) != value]
            done = int(about["done"])
            if not changed:
                if not 0 <= done <= self.frames:
                    raise ValueError(f"{done} of {self.frames} masks are done")
                segmenter.restore(state)
        except (
            SafetensorError,
            OSError,
            ValueError,  # of JSON, too
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,  # of tensors of another shape; RecursionError
        ) as error:  # cut short, or of a stranger
            raise DataError(
                f"the state {self.out / STATE} cannot be used ({first_sentence(error)}); remove it to begin anew"
            ) from error
        if changed:
            raise ConfigError(
                f"the interrupted run in {self.out} had another {', '.join(changed)}: give the same arguments, or "
                "begin anew without --resume"
            )
        lost = [i for i in self._order[:done] if i not in self._kept and not self._written.is_own(self._mask(i))]
        if lost:
            log.warning("%s is missing or changed: this run begins at the first frame", self._mask(lost[0]))
            segmenter.reset()
            return 0
        print(f"goes on after {done} of {self.frames} masks", flush=True)
        return done

    @contextmanager
    def movie(self, done: int) -> Iterator[OverlayMovie]:
        """The overlay video, which gets its name when the block ends."""
        partial = self.out / PARTIAL
        movie = OverlayMovie(partial, self.source, self.prompts.first, self._shown)
        try:
            with movie:
                yield movie
            if movie.complete:
                self._written.adopt(partial, self._movie)
        finally:
            partial.unlink(missing_ok=True)

    def write(self, index: int, ids: Ids, objects: list[int], probabilities: np.ndarray | None) -> None:
        """Write the mask of a frame, and its soft masks."""
        if index not in self._kept:
            self._written.write(self._mask(index), indexed_png(ids))
        if probabilities is not None:
            if not np.isfinite(probabilities).all():
                raise DataError(
                    f"the model gives values that are no numbers (NaN) in frame {self._names[index]}: its weights "
                    "are broken, or its training went astray; give another --checkpoint"
                )
            for number, p in zip(objects, probabilities[1:], strict=True):
                file = BytesIO()
                Image.fromarray(np.rint(p * 255).astype(np.uint8)).save(file, format="PNG")
                self._written.write(self._soft(number, index), file.getvalue())

    def save_state(self, writer: WriteBehind, segmenter: VideoSegmenter, done: int, now: bool = False) -> None:
        """From time to time, save what is needed to go on after `done` masks, as soon as these are written."""
        if now or time.monotonic() - self._saved >= SAVE_SECONDS:
            self._saved = time.monotonic()
            writer.put(self._save, segmenter.state(), done)

    def finish(self) -> None:
        """Write what is made of all masks; there is nothing to resume any more."""
        if self.prompts.origins:
            legend = {str(i): name for i, name in sorted(self.prompts.origins.items())}
            self._written.write(self.out / "objects.json", (json.dumps(legend, indent=2) + "\n").encode())
        if self.rle:
            self._written.write(
                self.out / "masks.json", json.dumps(coco_video(self._masks(), self.prompts.origins)).encode()
            )
        (self.out / STATE).unlink(missing_ok=True)

    def told(self) -> str:
        """Where else the results are."""
        also = [f", the video with its masks in {self._movie}"] if self._movie.exists() else []
        also += [f", what the ids are in {self.out / 'objects.json'}"] if self.prompts.origins else []
        also += [f", soft masks in {self.out / 'soft'}"] if self.soft else []
        also += [f", run lengths in {self.out / 'masks.json'}"] if self.rle else []
        return "".join(also)

    def _sweep(self) -> None:
        """Remove the unfinished files of a run that was killed."""
        for pattern in (f".{PARTIAL}.*.tmp", f".{STATE}.*.tmp", "masks/.*.png.*.tmp", "soft/*/.*.png.*.tmp"):
            for path in self.out.glob(pattern):
                path.unlink(missing_ok=True)

    def _save(self, state: Mapping[str, Tensor], done: int) -> None:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        with atomic_path(self.out / STATE) as temporary:
            temporary.write_bytes(save(tensors, {"run": json.dumps({"asked": self._asked, "done": done})}))

    def _mask(self, index: int) -> Path:
        return self.out / "masks" / f"{self._names[index]}.png"

    def _soft(self, number: int, index: int) -> Path:
        return self.out / "soft" / str(number) / f"{self._names[index]}.png"

    def _masks(self) -> Iterator[tuple[int, str, Ids]]:
        """All masks, as `coco_video` takes them."""
        for index in sorted(self._order):
            mask = self._shown(index)
            if mask is not None:
                yield index, f"{self._names[index]}.png", mask

    def _shown(self, index: int) -> Ids | None:
        """The mask of a frame that is done; None for one that is left alone."""
        if index in self._kept:
            return self.prompts.masks.get(index)
        return read_mask(self._mask(index)) if index in self._order else None
