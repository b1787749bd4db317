"""Scores of one video whose objects may appear on any frame. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vos_umec.io.masks import read_mask
from vos_umec.metrics.bits import pack_pair
from vos_umec.metrics.boundary import match_radius, pair_f
from vos_umec.metrics.jaccard import pair_jaccard
from vos_umec.metrics.score_files import read_result
from vos_umec.metrics.sequence import Row


@dataclass(frozen=True)
class LateMaskFiles:
    """One video to score, whose objects may appear on any frame.

    Attributes:
        name: Name of the video.
        truths: Ground-truth files in the order of the frames.
        results: Folder with a result of the same file name for each that comes after an object's first.
        appears: For each object's id the place in ``truths`` of the mask that introduces it.
    """

    name: str
    truths: tuple[Path, ...]
    results: Path
    appears: Mapping[int, int]

    @property
    def first(self) -> int:
        """Place of the first ground truth with an object; beyond the last where there is none."""
        return min(self.appears.values(), default=len(self.truths))


def score_late_objects(files: LateMaskFiles) -> list[Row]:
    """Read and score one video: each object on every annotated frame after the one that introduces it.

    Ids of a result that are no object of the video count as background, as 255 (void) of the ground truth does.

    Args:
        files: The video.

    Returns:
        One row per object, by id: ``sequence``, ``object``, ``J-Mean`` and ``F-Mean`` as fractions; none for an
        object that is introduced on the last annotated frame.

    Raises:
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.

    Source:
        METHOD section 6. The server's own rule for the first frame of an object is not published.

    Example:
        >>> score_late_objects(LateMaskFiles("dog", (Path("dog/00000.png"),), Path("results"), {1: 0}))
        []
    """
    J: dict[int, list[float]] = {k: [] for k in sorted(files.appears)}
    F: dict[int, list[float]] = {k: [] for k in J}
    for place, path in enumerate(files.truths[files.first + 1 :], start=files.first + 1):
        target = read_mask(path)
        prediction = read_result(files.results / path.name, target)
        radius = match_radius(target.shape)
        for k in J:
            if place > files.appears[k]:
                pair = pack_pair(prediction == k, target == k)
                J[k].append(pair_jaccard(pair))
                F[k].append(pair_f(pair, radius))
    return [
        {"sequence": files.name, "object": k, "J-Mean": float(np.mean(J[k])), "F-Mean": float(np.mean(F[k]))}
        for k in J
        if J[k]
    ]
