"""One row of the table that `soak.py` prints."""

from typing import NamedTuple


class Row(NamedTuple):
    """What one part found: its name, faults injected, survived and lost, and figures in words."""

    part: str
    injected: int
    survived: int
    lost: int
    figures: str
