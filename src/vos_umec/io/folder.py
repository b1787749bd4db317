"""A folder of pictures read as a video: what the DAVIS and YouTube-VOS downloads are."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from vos_umec.errors import DataError, VideoReadError
from vos_umec.io.container import PictureMaker
from vos_umec.io.frames import Frame, ProcessHandle, SourceFacts, gather

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
DEFAULT_FPS = 24.0  # the rate at which DAVIS was filmed; a folder has none of its own

# EXIF orientations that swap height and width.
_SIDEWAYS = frozenset({5, 6, 7, 8})
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = 1


class FolderSource:
    """A ``FrameSource`` over the pictures of one folder, in natural order of their names (2 before 10).

    Pictures that EXIF says are lying on their side are set upright. Transparency is dropped, grey becomes
    RGB. Only the headers are read at first, to hold the sizes against each other.

    Args:
        path: A folder with JPEG, PNG, WebP, BMP or TIFF pictures; hidden files and other files are passed over.
        facts: What opening it found before, to save reading the headers.

    Raises:
        DataError: The folder holds no pictures, or two of one name.
        VideoReadError: A picture cannot be read, or sizes differ.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("f10.png", "f2.png"):
        ...     Image.new("RGB", (6, 4), "red").save(folder / name)
        >>> source = FolderSource(folder)
        >>> source.names, source.size, source.read([1, 0, 1]).shape
        (['f2', 'f10'], (4, 6), (3, 4, 6, 3))
    """

    def __init__(self, path: Path, facts: SourceFacts | None = None) -> None:
        self.path = path
        self._pictures = _pictures(path)
        self._jpegs = JpegScaler()
        self.facts = facts or SourceFacts("folder", len(self._pictures), self._common_size(), DEFAULT_FPS)
        if len(self._pictures) != self.facts.frames:
            raise VideoReadError(
                path,
                f"it has {len(self._pictures)} pictures where {self.facts.frames} were found before; "
                "the folder has changed, index it again",
            )

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every picture, upright."""
        return self.facts.size

    @property
    def fps(self) -> float:
        """Frames a second; 24 unless the facts given say otherwise."""
        return self.facts.fps

    @property
    def names(self) -> list[str]:
        """File names without their suffix."""
        return [picture.stem for picture in self._pictures]

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames; see ``FrameSource.read``."""
        wanted = size or self.size
        return gather(self.path, len(self), indices, wanted, lambda index: self._frame(index, wanted))

    def _common_size(self) -> tuple[int, int]:
        first = self._open(0)[1]
        for index in range(1, len(self._pictures)):
            self._check_size(index, self._open(index)[1], first)
        return first

    def _check_size(self, index: int, found: tuple[int, int], expected: tuple[int, int]) -> None:
        if found != expected:
            raise VideoReadError(
                self.path,
                f"{self._pictures[index].name} has size {found} (H, W) where {self._pictures[0].name} had "
                f"{expected}; the frames of a video need one size (if they have changed, index the folder again)",
            )

    def _open(self, index: int, data: bytes | None = None) -> tuple[Image.Image, tuple[int, int]]:
        """Open a picture, which reads its header alone; also give its upright (H, W)."""
        picture = self._pictures[index]
        try:
            image = Image.open(picture if data is None else BytesIO(data))
            sideways = _orientation(image) in _SIDEWAYS
        except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
            raise VideoReadError(self.path, f"{picture.name} is no readable picture: {error}") from error
        width, height = image.size
        return image, (width, height) if sideways else (height, width)

    def _frame(self, index: int, wanted: tuple[int, int]) -> Frame:
        name = self._pictures[index].name
        try:
            data = self._pictures[index].read_bytes()
        except OSError as error:
            raise VideoReadError(self.path, f"{name} cannot be read: {error}") from error
        image, size = self._open(index, data)
        with image:
            self._check_size(index, size, self.size)
            try:
                upright = _orientation(image) == _UPRIGHT
                whole = image.size
                # Where half the size is enough, Pillow's decoder is quickest; it never goes below what is wanted.
                height, width = wanted if size == whole[::-1] else wanted[::-1]
                image.draft("RGB", (width, height))
                plain = (image.format, image.mode, image.size) == ("JPEG", "RGB", whole) and upright
                scaled = self._jpegs.read(data, wanted) if plain and wanted != size else None
                if scaled is not None:
                    return scaled
                return _rgb(image if upright else ImageOps.exif_transpose(image))
            except (OSError, ValueError, SyntaxError, struct.error) as error:  # the last of broken EXIF
                raise VideoReadError(self.path, f"{name} cannot be decoded: {error}") from error


def _pictures(folder: Path) -> list[Path]:
    """Pictures of a folder in natural order."""
    try:
        files = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise VideoReadError(folder, f"its pictures cannot be listed: {error.strerror}") from error
    pictures = [entry for entry in files if entry.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        inside = ", ".join(sorted(entry.name for entry in files)[:3]) or "nothing"
        raise DataError(
            f"no pictures in the folder {folder}: it holds {inside}; "
            "expected JPEG or PNG frames, name the folder that holds them or a video file"
        )
    pictures.sort(key=_natural)
    stems = set()
    for picture in pictures:
        if picture.stem in stems:
            raise DataError(
                f"the folder {folder} holds {picture.stem} twice with different endings; "
                "keep one kind of picture in it"
            )
        stems.add(picture.stem)
    return pictures


def _natural(picture: Path) -> tuple[list[str | int], str]:
    """Sort key in which frame2 comes before frame10."""
    parts = re.split(r"([0-9]+)", picture.stem)  # text and digits in turn, so like meets like
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], picture.name


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened picture, 1 to 8."""
    if image.format == "PNG" and "exif" not in image.info:
        return _UPRIGHT  # Pillow would decode the whole picture to look for it behind the pixels
    return int(image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT))


def _rgb(image: Image.Image) -> Frame:
    """(H, W, 3) uint8 of a decoded picture."""
    if image.mode.startswith("I;16"):
        high_byte = np.asarray(image, np.uint16) >> 8  # Pillow's own conversion would clip at 255
        image = Image.fromarray(high_byte.astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise ValueError(f"pixels of type {image.mode} have no certain brightness; save 8 bits a channel")
    return np.asarray(image.convert("RGB"))


if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext


class JpegScaler:
    """Decodes JPEG pictures at another size than they have.

    FFmpeg scales the planes of a JPEG before they become RGB, which takes about two thirds of the time of decoding
    to RGB and scaling that with Pillow; the difference between the two is at about 50 dB.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (64, 48), (255, 0, 0)).save(file, "JPEG")
        >>> JpegScaler().read(file.getvalue(), (12, 16)).shape
        (12, 16, 3)
        >>> JpegScaler().read(file.getvalue()[:100], (12, 16)) is None
        True
    """

    def __init__(self) -> None:
        self._decoder: ProcessHandle[tuple[VideoCodecContext, PictureMaker]] = ProcessHandle()

    def read(self, data: bytes, size: tuple[int, int]) -> Frame | None:
        """Decode one picture.

        Args:
            data: A JPEG file in YCbCr or RGB. Orientation in EXIF is not looked at.
            size: (H, W) to scale to.

        Returns:
            (H, W, 3) uint8, or None if FFmpeg finds anything wrong with the file.
        """
        import av

        decoder, pictures = self._decoder.get(_open)
        try:
            frames = decoder.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError):
            self._decoder.drop()
            return None
        return pictures.make(frames[0], size) if len(frames) == 1 else None


def _open() -> tuple[VideoCodecContext, PictureMaker]:
    import av

    decoder = av.VideoCodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}  # else it paints over what is missing
    return decoder, PictureMaker(full_colors=True)
