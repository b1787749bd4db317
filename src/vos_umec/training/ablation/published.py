"""What is published: the paper's ablations, and its benchmarks beside other methods (METHOD section 7; J&F)."""

from collections.abc import Mapping
from dataclasses import dataclass

PUBLISHED: Mapping[str, float] = {
    "4a_short": 57.4,
    "4a_long": 67.2,
    "4a_both": 68.8,
    "4a_seg": 62.3,
    "4a_all": 74.5,
    "4b_first": 68.8,
    "4b_first_15": 73.2,
    "4b_first_20": 74.5,
    "4b_first_25": 73.5,
    "4b_first_30": 72.8,
    "4c_M2": 67.5,
    "4c_M3": 71.6,
    "4c_M5": 74.5,
    "4c_M8": 72.5,
    "4c_M10": 70.1,
    "4d_never": 71.1,
    "4d_every_20": 72.8,
    "4d_every_15": 73.9,
    "4d_every_10": 74.5,
    "4d_every_5": 72.5,
    "4d_every_1": 69.7,
    "4e_rounds_0": 69.7,
    "4e_rounds_1": 72.6,
    "4e_rounds_2": 73.9,
    "4e_rounds_3": 74.5,
    "4e_rounds_4": 74.3,
    "4e_rounds_5": 74.0,
    "4f_mast": 65.5,
    "4f_mast_seg": 69.0,
    "4f_crw": 67.6,
    "4f_crw_seg": 71.8,
    "4f_ours": 68.8,
    "4f_ours_seg": 74.5,
}
"""In per cent, by the name of the cell's file in configs/ablations; DAVIS 2017 val, ResNet-18."""


@dataclass(frozen=True)
class PublishedScore:
    """One method's figure on one benchmark.

    Attributes:
        method: Its name.
        score: J&F in per cent; on YouTube-VOS the mean over seen and unseen categories.
        backbone: "" where it is not given.
        supervised: Whether it was trained with masks that people drew.
    """

    method: str
    score: float
    backbone: str = ""
    supervised: bool = False


_R18, _R50 = "ResNet-18", "ResNet-50"

BENCHMARKS: Mapping[str, tuple[PublishedScore, ...]] = {
    "DAVIS 2017 val": (
        PublishedScore("Colorization", 34.0, _R18),
        PublishedScore("TimeCycle", 48.7, _R50),
        PublishedScore("CorrFlow", 50.3, _R18),
        PublishedScore("MuG", 54.3, _R18),
        PublishedScore("DINO", 56.2, _R50),
        PublishedScore("UVC", 57.8, _R18),
        PublishedScore("ConCorr", 63.0, _R18),
        PublishedScore("MAST", 65.5, _R18),
        PublishedScore("VFS", 67.9, _R18),
        PublishedScore("VFS", 69.4, _R50),
        PublishedScore("CRW", 68.3, _R18),
        PublishedScore("JSTG", 68.7, _R18),
        PublishedScore("DUL", 69.3, _R18),
        PublishedScore("CLTC", 70.3, _R18),
        PublishedScore("SCR", 70.5, _R18),
        PublishedScore("DINO", 71.4, "ViT-B/8"),
        PublishedScore("LIIR", 72.1, _R18),
        PublishedScore("UMEC", 74.5, _R18),
        PublishedScore("UMEC", 75.6, _R50),
        PublishedScore("OSVOS", 60.3, supervised=True),
        PublishedScore("STM", 81.8, supervised=True),
    ),
    "DAVIS 2017 test-dev": (
        PublishedScore("CRW", 55.9),
        PublishedScore("DUL", 57.0),
        PublishedScore("LIIR", 57.5),
        PublishedScore("SCR", 59.9),
        PublishedScore("UMEC", 61.3, _R18),
        PublishedScore("UMEC", 62.4, _R50),
        PublishedScore("RGMP", 52.9, supervised=True),
        PublishedScore("STM", 72.2, supervised=True),
    ),
    "YouTube-VOS val": (
        PublishedScore("Colorization", 38.9),
        PublishedScore("CorrFlow", 46.6),
        PublishedScore("CLTC", 67.3),
        PublishedScore("LIIR", 69.3),
        PublishedScore("DUL", 69.9),
        PublishedScore("UMEC", 71.6, _R18),
        PublishedScore("UMEC", 72.4, _R50),
        PublishedScore("OSVOS", 58.8, supervised=True),
        PublishedScore("STM", 79.4, supervised=True),
    ),
}
"""By data set; what learned without labels first. UMEC has ResNet-18 where METHOD names only the other encoder."""
