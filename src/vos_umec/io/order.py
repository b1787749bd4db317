"""The order of frames by the numbers in their names."""

import re
from collections.abc import Sequence
from decimal import Decimal

_MINUS = re.compile(r"(?<![0-9)\]])-(?=[0-9])")
_CHAIN = re.compile(r"[0-9]+(?:[.,][0-9]+)*")  # 7, 1700000000.125, 2024.01.31
_BROKEN = r"[0-9]+[.,][0-9]+(?![0-9]|[.,][0-9])"  # the last two of a chain
_ALONE = rf"(?<![0-9])(?<![0-9][.,]){_BROKEN}"  # a chain of two
_SURE_DIGITS = 5  # behind the last point of a longer chain; years and parts of a second's name have fewer


def natural_order(names: Sequence[str]) -> list[int]:
    """Places of names in the order of the numbers that they hold: frame2 before frame10, 0.0416 before 0.125.

    All names together tell what a point and a minus mean. After a point stands a fraction, unless it counts (1.9,
    1.10) or belongs to a date or a version (2024.1.31). A minus is a sign where other names have none; with clip-1
    and clip-2 it only parts. Names of equal numbers follow each other as text.

    Args:
        names: Names without their ending.

    Returns:
        Index of the first name, of the second and so on.

    Example:
        >>> natural_order(["f10", "f9", "f-1"]), natural_order(["1.10", "1.9"]), natural_order(["1.125", "1.04"])
        ([2, 1, 0], [1, 0], [1, 0])
    """
    token = re.compile(rf"((?:{_sign(names)})(?:{_number(names)}))")
    keys = [_key(name, token) for name in names]
    return sorted(range(len(names)), key=lambda index: (keys[index], names[index]))


def _key(name: str, token: re.Pattern[str]) -> list[str | Decimal]:
    parts = token.split(name)  # text and numbers alternate, so equal types are compared
    return [Decimal(part.replace(",", ".")) if i % 2 else part.casefold() for i, part in enumerate(parts)]


def _number(names: Sequence[str]) -> str:
    """Pattern of a number: with a fraction, where what follows a point is one."""
    chains = [re.split("[.,]", chain) for name in names for chain in _CHAIN.findall(name)]
    pairs = [chain[1] for chain in chains if len(chain) == 2]
    longer = [chain[-1] for chain in chains if len(chain) > 2]
    if _are_fractions(longer) and max(map(len, longer)) >= _SURE_DIGITS:
        return f"{_BROKEN}|[0-9]+"
    return f"{_ALONE}|[0-9]+" if _are_fractions(pairs) else "[0-9]+"


def _are_fractions(behind: Sequence[str]) -> bool:
    """Whether digits behind a point are fractions. If all have one length, both readings give the same order."""
    counts = any(len(digits) > 1 and digits.endswith("0") for digits in behind)  # a program writes 1.5, not 1.50
    return len(set(map(len, behind))) > 1 and not counts


def _sign(names: Sequence[str]) -> str:
    """Pattern of a sign: a minus counts as one if another name looks the same but for it."""
    shapes = [{_CHAIN.sub("#", _MINUS.sub("", name)) for name in names if bool(_MINUS.search(name)) is signed}
              for signed in (True, False)]  # fmt: skip
    return f"{_MINUS.pattern}|" if shapes[0] & shapes[1] else ""
