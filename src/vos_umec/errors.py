"""The exceptions a user meets. Each message says what went wrong, what was found, what was expected, what to do."""

from pathlib import Path


class VosUmecError(Exception):
    """Base of every error that this package raises on purpose; the commands print it as one line."""


class ConfigError(VosUmecError):
    """A setting or an argument that is unknown, contradictory or out of range."""


class DataError(VosUmecError):
    """Data that is missing, empty or not in the expected format."""


class VideoReadError(DataError):
    """A video file or a folder of frames that cannot be read.

    Args:
        path: The file or folder.
        reason: What is wrong with it, and what to do.

    Example:
        >>> print(VideoReadError("clip.mp4", "no video stream"))
        cannot read clip.mp4: no video stream
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoReadError"], tuple[str, str]]:
        # An exception with two arguments does not pickle by default, and a DataLoader would hang on it.
        return type(self), (str(self.path), self.reason)


class MaskError(DataError):
    """A mask whose object ids are ambiguous, or that does not fit its frame."""


class CheckpointError(VosUmecError):
    """A checkpoint that is missing, broken or of another network."""


class MissingDependencyError(VosUmecError):
    """A package that this step needs is not installed."""


def first_sentence(error: BaseException) -> str:
    """The first sentence of another library's error message.

    What follows it in torch's messages is advice to load files in an unsafe way.

    Args:
        error: The error.

    Returns:
        The sentence, or the name of the error's class if there is no message.

    Example:
        >>> first_sentence(ValueError("no such thing. Try another.")), first_sentence(EOFError())
        ('no such thing', 'EOFError')
    """
    return (str(error) or type(error).__name__).strip().splitlines()[0].split(". ")[0]
