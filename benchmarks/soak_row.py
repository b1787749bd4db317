"""A row of the table that `make soak` prints."""

from typing import NamedTuple


class Row(NamedTuple):
    """What one part of the soak found: faults injected, those that were survived, those that were not, and figures."""

    part: str
    injected: int
    survived: int
    lost: int
    figures: str
