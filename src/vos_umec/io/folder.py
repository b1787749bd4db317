"""A folder of images read as a video: the format of the DAVIS and YouTube-VOS downloads."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from vos_umec.errors import DataError, VideoReadError
from vos_umec.io.container import PictureMaker
from vos_umec.io.endings import PICTURE_SUFFIXES, ending
from vos_umec.io.frames import DEFAULT_FPS, Frame, KnownSource, ProcessHandle, SourceFacts, gather, report_progress
from vos_umec.io.mask_like import look_at, mask_patterns, pattern, samples
from vos_umec.io.order import natural_order
from vos_umec.io.picture import check_scans, open_picture

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = 1
_SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap height and width


class JpegScaler:
    """Decodes JPEG images at another size than they have.

    FFmpeg scales the planes of a JPEG before they become RGB. That takes about two thirds of the time of decoding
    to RGB and scaling with Pillow; the two results differ by about 50 dB.
    """

    def __init__(self) -> None:
        self._decoder: ProcessHandle[tuple[VideoCodecContext, PictureMaker]] = ProcessHandle()

    def read(self, data: bytes, size: tuple[int, int]) -> Frame | None:
        """Decode a JPEG file in YCbCr or RGB at `size` (H, W), without its EXIF orientation.

        Returns:
            (H, W, 3) uint8, or None if FFmpeg finds any fault in the file.
        """
        import av

        decoder, pictures = self._decoder.get(_open_jpeg_decoder)
        try:
            frames = decoder.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError):
            self._decoder.drop()
            return None
        return pictures.make(frames[0], size) if len(frames) == 1 else None


class FolderSource(KnownSource):
    """A `FrameSource` over the images of one folder, in the order of the numbers in their names.

    EXIF orientation is applied. Transparency is dropped, and grey becomes RGB. Opening the folder reads only the
    headers, to check that all sizes are equal. Masks that lie among the frames are no frames: see `mask_patterns`;
    `facts.left_out` has the patterns of their names.

    Args:
        path: A folder with JPEG, PNG, WebP, BMP or TIFF images (`PICTURE_SUFFIXES` has all); hidden files and other
            files are ignored.
        facts: Facts of an earlier opening; they save reading the headers.

    Raises:
        DataError: The folder has no images, or two of the same name.
        VideoReadError: An image cannot be read, or sizes differ.
    """

    def __init__(self, path: Path, facts: SourceFacts | None = None) -> None:
        self.path = path
        found = _find_images(path)
        left_out = mask_patterns(found, _look) if facts is None else facts.left_out
        self._images = _frames(path, found, left_out)
        self._jpegs = JpegScaler()
        super().__init__(
            path,
            facts or SourceFacts("folder", len(self._images), self._common_size(), DEFAULT_FPS, left_out=left_out),
        )
        self._require_unchanged(len(self._images))

    @property
    def names(self) -> list[str]:
        """File names without their suffix."""
        return [image.stem for image in self._images]

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures, one a frame."""
        return tuple(self._images)

    def masks(self) -> list[Path]:
        """The pictures of the folder that are masks, not frames."""
        if not self.facts.left_out:
            return []
        return sorted(path for path in _find_images(self.path) if pattern(path) in self.facts.left_out)

    def looks_like_masks(self) -> tuple[bool, bool]:
        """Whether the frames themselves look like masks: all are flat, and all are plain (`look_at`)."""
        looks = [_look(path) for path in samples(self._images)]
        return all(flat for flat, _ in looks), all(plain for _, plain in looks)

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames; see `FrameSource.read`."""
        wanted = size or self.size
        return gather(self.path, len(self), indices, wanted, lambda index: self._frame(index, wanted))

    def _common_size(self) -> tuple[int, int]:
        first = self._open(0)[1]
        for index in range(1, len(self._images)):
            self._check_size(index, self._open(index)[1], first)
        return first

    def _check_size(self, index: int, found: tuple[int, int], expected: tuple[int, int]) -> None:
        if found != expected:
            raise VideoReadError(
                self.path,
                f"{self._images[index].name} has size {found} (H, W), but {self._images[0].name} had {expected}; "
                "all frames of a video need one size (if they have changed, index the folder again)",
            )

    def _open(self, index: int, data: bytes | None = None) -> tuple[Image.Image, tuple[int, int]]:
        """Open an image, which reads only its header, and give its (H, W) after EXIF orientation."""
        path = self._images[index]
        report_progress()
        try:
            image = open_picture(path if data is None else BytesIO(data))
            sideways = _orientation(image) in _SIDEWAYS
        except (OSError, ValueError, SyntaxError, struct.error) as error:
            raise VideoReadError(self.path, f"{path.name} is no readable picture: {error}") from error
        width, height = image.size
        return image, (width, height) if sideways else (height, width)

    def _frame(self, index: int, wanted: tuple[int, int]) -> Frame:
        name = self._images[index].name
        try:
            data = self._images[index].read_bytes()
        except OSError as error:
            raise VideoReadError(self.path, f"{name} cannot be read: {error}") from error
        image, size = self._open(index, data)
        with image:
            self._check_size(index, size, self.size)
            try:
                if image.format == "JPEG":
                    check_scans(data)
                upright = _orientation(image) == _UPRIGHT
                whole = image.size
                # Where half the size is enough, Pillow's decoder is fastest; it never goes below the wanted size.
                height, width = wanted if size == whole[::-1] else wanted[::-1]
                image.draft("RGB", (width, height))
                plain = (image.format, image.mode, image.size) == ("JPEG", "RGB", whole) and upright
                scaled = self._jpegs.read(data, wanted) if plain and wanted != size else None
                if scaled is not None:
                    return scaled
                return _rgb(image if upright else ImageOps.exif_transpose(image))
            except (OSError, ValueError, SyntaxError, struct.error, MemoryError) as error:  # struct.error: EXIF
                raise VideoReadError(self.path, f"{name} cannot be decoded: {error}") from error


def _open_jpeg_decoder() -> tuple[VideoCodecContext, PictureMaker]:
    import av

    decoder = av.VideoCodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}  # by default it fills in what is missing, without an error
    return decoder, PictureMaker(full_colors=True)


def _find_images(folder: Path) -> list[Path]:
    """Pictures of a folder, sorted by name."""
    try:
        files = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise VideoReadError(folder, f"its pictures cannot be listed: {error.strerror}") from error
    images = [entry for entry in files if ending(entry) in PICTURE_SUFFIXES]
    if not images:
        inside = ", ".join(sorted(entry.name for entry in files)[:3]) or "nothing"
        raise DataError(
            f"no pictures in the folder {folder}: it holds {inside}; "
            "expected JPEG or PNG frames, name the folder that holds them or a video file"
        )
    return sorted(images)


def _frames(folder: Path, images: Sequence[Path], left_out: Collection[str]) -> list[Path]:
    """Those of the pictures that are frames, in natural order."""
    kept = [path for path in images if not left_out or pattern(path) not in left_out]
    stems = set()
    for image in kept:
        if image.stem in stems:
            raise DataError(
                f"the folder {folder} holds {image.stem} twice with different endings: "
                "expected one file per frame; remove one kind"
            )
        stems.add(image.stem)
    return [kept[place] for place in natural_order([image.stem for image in kept])]


def _look(path: Path) -> tuple[bool, bool]:
    """`look_at` of a file; a broken one is neither flat nor plain, and is reported as a frame."""
    try:
        with open_picture(path) as image:
            if image.format == "JPEG":
                check_scans(path.read_bytes())
            return look_at(image)
    except (OSError, ValueError, SyntaxError, struct.error):
        return False, False


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8."""
    if image.format == "PNG" and "exif" not in image.info:
        return _UPRIGHT  # Pillow would decode the whole image to look for it behind the pixels
    return int(image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT))


def _rgb(image: Image.Image) -> Frame:
    """(H, W, 3) uint8 of a decoded image."""
    if image.mode.startswith("I;16"):
        high_byte = np.asarray(image, np.uint16) >> 8  # Pillow's own conversion would clip at 255
        image = Image.fromarray(high_byte.astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise ValueError(f"pixels of type {image.mode} have no certain brightness; save 8 bits per channel")
    return np.asarray(image.convert("RGB"))
