"""Objects that move are found among noise, and pasted whole."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "moving_objects"))
from components import connected
from find_objects import objects_of
from motion import motion_between, moving_evidence
from whole_objects import PasteWholeObjects


def scene(frames: int, camera: tuple[int, int], own: tuple[int, int]) -> tuple[torch.Tensor, np.ndarray]:
    """Random keys (T, D, 24, 32) under a camera that shifts, with a square of 6 cells on a course of its own."""
    generator = torch.Generator().manual_seed(0)
    world = F.normalize(torch.randn(16, 80, 80, generator=generator), dim=0)
    square = F.normalize(torch.randn(16, 6, 6, generator=generator), dim=0)
    keys, masks = [], np.zeros((frames, 24, 32), bool)
    for t in range(frames):
        y, x = 20 + camera[0] * t, 20 + camera[1] * t
        view = world[:, y : y + 24, x : x + 32].clone()
        top, left = 8 + own[0] * t, 6 + own[1] * t
        view[:, top : top + 6, left : left + 6] = square
        masks[t, top : top + 6, left : left + 6] = True
        keys.append(view)
    return torch.stack(keys), masks


def test_what_moves_against_a_moving_picture_has_evidence() -> None:
    keys, masks = scene(3, camera=(1, -2), own=(0, 4))
    motion = motion_between(keys[1], keys[2])
    assert motion.residual < 0.2
    assert motion.evidence[torch.from_numpy(masks[1])].min() > 0.05
    seen_again = np.zeros((24, 32), bool)  # cells of the world that the next view holds, uncovered
    seen_again[1:, :-2] = True
    seen_again &= ~masks[1]
    shifted = np.roll(masks[2], (1, -2), axis=(0, 1))
    assert motion.evidence[torch.from_numpy(seen_again & ~shifted)].max() < 0.01


def test_a_still_object_has_no_evidence() -> None:
    keys, _ = scene(3, camera=(0, 0), own=(0, 0))
    assert motion_between(keys[0], keys[2]).evidence.max() < 0.01


def test_evidence_needs_both_directions_and_starts_in_the_middle() -> None:
    keys, masks = scene(13, camera=(0, 0), own=(0, 1))
    found = dict(moving_evidence(lambda t: keys[t], 13, step=4))
    assert list(found) == [8, 4]
    inner = np.zeros_like(masks[4])
    inner[9:13, 11:15] = True  # of the square at frame 4, without its border, which the median may take
    assert (found[4].evidence.numpy() > 0.05)[inner].all()
    assert (found[4].evidence.numpy() > 0.05)[~masks[4]].mean() < 0.01


def test_connected_parts_agree_with_a_flood_fill() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (4, 9, 11)).astype(np.uint8)
    expected, number = np.full(labels.shape, -1), 0
    for start in np.ndindex(labels.shape):
        if expected[start] >= 0:
            continue
        stack = [start]
        while stack:
            cell = stack.pop()
            if expected[cell] >= 0:
                continue
            expected[cell] = number
            for axis in range(3):
                for step in (-1, 1):
                    other = tuple(c + step * (a == axis) for a, c in enumerate(cell))
                    inside = all(0 <= c < n for c, n in zip(other, labels.shape, strict=True))
                    if inside and labels[other] == labels[start]:
                        stack.append(other)
        number += 1
    found = connected(labels)
    pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == number == found.max() + 1


def test_segments_that_move_become_one_object_of_pixels() -> None:
    segments = np.zeros((8, 96, 128), np.uint8)
    for t in range(8):
        segments[t, 32:64, 20 + 4 * t : 40 + 4 * t] = 1  # two halves of one object
        segments[t, 32:64, 40 + 4 * t : 60 + 4 * t] = 2
    segments[:, 80:, :40] = 3  # still
    moving = {t: (segments[t, 2::4, 2::4] == 1) | (segments[t, 2::4, 2::4] == 2) for t in (2, 4)}
    ids, reason, areas = objects_of(moving, segments, stride=4)
    assert reason == "kept"
    assert len(areas) == 1
    assert np.array_equal(ids == 1, (segments == 1) | (segments == 2))


def test_a_piece_is_the_whole_object_about_its_centre() -> None:
    torch.manual_seed(0)
    segments = torch.full((2, 3, 40, 40), 11, dtype=torch.uint8)
    segments[0, :, 4:14, 20:36] = 2  # the second clip has no object
    blob, centre = torch.zeros(2, 40, 40, dtype=torch.bool), torch.zeros(2, 2)
    blob[:, 15:25, 15:25] = True
    pieces = PasteWholeObjects(1.0, whole=1.0)._cut_out(blob, centre, segments)
    assert torch.equal(pieces[0] > 0, segments[0] == 2)
    assert torch.equal(pieces[1] > 0, blob[1].expand(3, -1, -1))
    assert torch.allclose(centre, torch.tensor([[0.4, -0.55], [0.0, 0.0]]), atol=1e-6)


def test_an_object_that_leaves_is_not_pasted() -> None:
    segments = torch.full((1, 3, 40, 40), 11, dtype=torch.uint8)
    segments[0, :2, 4:14, 20:36] = 2
    blob, centre = torch.ones(1, 40, 40, dtype=torch.bool), torch.zeros(1, 2)
    paste = PasteWholeObjects(1.0, whole=1.0)
    paste.segments = 0.0  # pieces that are no objects are blobs
    assert bool((paste._cut_out(blob, centre, segments) > 0).all())
    assert not centre.any()
