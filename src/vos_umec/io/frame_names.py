"""Which frame a word or the name of a mask file means."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from vos_umec.errors import ConfigError, MaskError

_PADDED = re.compile(
    r"(?<![0-9])0[0-9]{3,}(?![0-9])"
)  # 000008 in frame_000008, as CVAT names the frames of a video


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


def frame_of_file(names: Sequence[str], stem: str) -> int | None:
    """The frame that the name of a mask file speaks of; None if it speaks of none.

    It is the name of a frame, or has one between other words (`00008_mask`), or one number with leading zeros that
    is a frame's number (`frame_000008`).

    Raises:
        MaskError: It speaks of several frames, or is a number with leading zeros that no frame has.
    """
    if stem in names:
        return list(names).index(stem)
    inside = [name for name in names if name in stem and (len(name) > 3 or not name.isdigit())]
    found = {n for n in inside if re.search(rf"(?<![0-9A-Za-z]){re.escape(n)}(?![0-9A-Za-z])", stem)}
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
    if _PADDED.fullmatch(stem):
        raise MaskError(
            f"the mask {stem} is named as a frame that the video does not have (it has {names[0]} to {names[-1]}); "
            "say which frame it is of: --frame FRAME, or --mask FRAME=FILE"
        )
    return None
