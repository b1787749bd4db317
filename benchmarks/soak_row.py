"""A row of the table that `make soak` prints."""

from typing import NamedTuple


class Row(NamedTuple):
    """What one part of the soak found: faults injected, those survived, those lost, and further figures."""

    part: str
    injected: int
    survived: int
    lost: int
    figures: str
