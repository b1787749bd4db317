"""Which frame a word or the name of a mask file means."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from vos_umec.errors import ConfigError, MaskError
from vos_umec.io.mask_like import names_masks

# 000008 in frame_000008, as CVAT names the frames of a video
_PADDED = re.compile(r"(?<![0-9])0[0-9]{3,}(?![0-9])")
_FRAME = re.compile(r"frame|image|img", re.IGNORECASE)


def frame_index(names: Sequence[str], word: str | int) -> int:
    """The index of the frame that a user names: by its name, its file, or its index from 0. A name comes first.

    Raises:
        ConfigError: There is no such frame.
    """
    text = str(word)
    for name in (text, PurePath(text).stem) if isinstance(word, str) else ():
        if name in names:
            return list(names).index(name)
    if re.fullmatch(r"0|[1-9][0-9]*", text) and int(text) < len(names):
        return int(text)
    raise ConfigError(
        f"there is no frame {text}; the video has frames {names[0]} to {names[-1]}, index 0 to {len(names) - 1}"
    )


def frame_of_file(names: Sequence[str], stem: str, video: str = "") -> int | None:
    """The frame that the name of a mask file speaks of; None if it speaks of none.

    It is the name of a frame, or has one between other words (`00008_mask`), or one number with leading zeros that
    is a frame's number (`frame_000008`). Large and small letters are the same.

    Args:
        names: The names of the frames.
        stem: The name of the file without its ending.
        video: The name of the video without its ending: a mask that is named for it speaks of no frame.

    Raises:
        MaskError: It speaks of several frames, or is a number with leading zeros that no frame has.
    """
    if stem in names:
        return list(names).index(stem)
    if video and not video.isdigit():
        stem = _word(video).sub("", stem)
    small = stem.casefold()
    inside = [name for name in names if name.casefold() in small and (len(name) > 3 or not name.isdigit())]
    found = {name for name in inside if _word(name).search(stem)}
    if not found:
        numbers = {int(number) for number in _PADDED.findall(stem)}
        found = {name for name in names if name.isdigit() and int(name) in numbers}
    if len(found) > 1:
        raise MaskError(
            f"the mask {stem} has the names of {len(found)} frames in its own ({', '.join(sorted(found)[:3])}); "
            "say which one it is of, as --mask FRAME=FILE"
        )
    if found:
        return list(names).index(found.pop())
    if _PADDED.search(stem) and all(map(_tells_nothing, re.findall("[A-Za-z]+", stem))):
        raise MaskError(
            f"the mask {stem} is named as a frame that the video does not have (it has {names[0]} to {names[-1]}); "
            "say which frame it is of: --frame FRAME, or --mask FRAME=FILE"
        )
    return None


def _word(name: str) -> re.Pattern[str]:
    """A name that stands between other words."""
    return re.compile(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", re.IGNORECASE)


def _tells_nothing(word: str) -> bool:
    """Whether a word beside a number says no more than that the file is the mask of a frame."""
    return names_masks(word) or bool(_FRAME.fullmatch(word))
