"""The few exceptions a user meets. Each message says what, what was found, what was expected, what to do."""

from pathlib import Path


class VosUmecError(Exception):
    """Base of every error raised on purpose by this package; commands print it as one line.

    Example:
        >>> issubclass(DataError, VosUmecError)
        True
    """


class DataError(VosUmecError):
    """Data that is missing, empty, or not what its place promises."""


class VideoReadError(DataError):
    """A video or frame folder that cannot be read.

    Args:
        path: The file or folder.
        reason: What went wrong, in words a user can act on.

    Example:
        >>> print(VideoReadError("clip.mp4", "no video stream"))
        cannot read clip.mp4: no video stream
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoReadError"], tuple[str, str]]:
        # Two constructor arguments: the default pickling of exceptions would pass one and hang a DataLoader.
        return type(self), (str(self.path), self.reason)


class MaskError(DataError):
    """A mask whose meaning is not certain, or that does not fit its frame."""


class ConfigError(VosUmecError):
    """A setting that is unknown, contradictory, or out of range."""


class CheckpointError(VosUmecError):
    """A checkpoint that is missing, broken, or of another network."""


class MissingDependencyError(VosUmecError):
    """A package that this step needs and that is not installed."""


def first_sentence(error: BaseException) -> str:
    """What another library's error says first; what follows in torch's is advice that would load untrusted code.

    Args:
        error: The error.

    Example:
        >>> first_sentence(ValueError("no such thing. Try another.")), first_sentence(EOFError())
        ('no such thing', 'EOFError')
    """
    return (str(error) or type(error).__name__).strip().splitlines()[0].split(". ")[0]
