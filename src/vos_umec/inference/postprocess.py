"""From masks to ids: outliers, regions too far from an object to be a part of it; and which object wins a pixel."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.inference.resizing import resize_nearest


def remove_outliers(masks: Tensor, max_extent: float, permanent: Tensor) -> Tensor:
    """Masks without regions that are far from an object, for its size, and do not look like a part of it.

    The decoder turns wrong matches into solid regions, which then persist in memory. Along each axis an object's
    place is the median of its pixels, and its size their median distance from it. Outliers hardly change either if
    they are the smaller part; if they are the larger part, they are taken for the object, and the other part is
    dropped. A disc reaches 2.5 times its size, a bar 2 times, a swan's raised neck nearly 7 times. So a far part
    stays if it is joined to a near one and looks like the object in the permanent references.

    Args:
        masks: Soft masks (K, H, W) in [0, 1]; what is above 0.5 counts as the object.
        max_extent: How far from its place is near along each axis, as a multiple of the object's size. Two pixels
            are added to the size, so that small objects are not cut.
        permanent: The masks read from the permanent references alone (K, H, W) in [0, 1]; above 0.5, a pixel looks
            like the object.

    Returns:
        The masks (K, H, W), zero elsewhere. An object without a pixel above 0.5 stays as it is.

    Example:
        >>> masks = torch.zeros(1, 40, 40)
        >>> masks[0, 10:18, 4:12] = 1  # the object
        >>> masks[0, 10:13, 36:40] = 1  # an outlier
        >>> int(masks.sum()), int(remove_outliers(masks, 5, torch.ones_like(masks)).sum())
        (76, 64)
    """
    solid = torch.where(masks > 0.5, masks, 0).float()
    down, across = _near(solid.sum(dim=2), max_extent), _near(solid.sum(dim=1), max_extent)  # (K, H), (K, W)
    near = down[:, :, None] & across[:, None, :]
    return masks * (near | (_joined(near, solid > 0) & (permanent > 0.5)))


def _joined(near: Tensor, solid: Tensor) -> Tensor:
    """Parts connected through the object to a near part, and a pixel around them: (K, H, W) bool."""
    joined = near & solid
    while True:
        around = F.max_pool2d(joined.float(), kernel_size=3, stride=1, padding=1) > 0
        touched = around & solid
        if torch.equal(touched, joined):  # mostly at once; a GPU is waited for here
            return around
        joined = _whole_runs(touched, solid)
        joined = _whole_runs(joined.mT, solid.mT).mT


def _whole_runs(joined: Tensor, solid: Tensor) -> Tensor:
    """Every unbroken run along a row of `solid` (K, H, W) that holds a joined pixel: a long step at once."""
    run = (~solid).cumsum(dim=2)  # a number for each run and the gap before it; gaps have nothing joined
    touched = torch.zeros(*run.shape[:2], run.shape[2] + 1, device=run.device).scatter_add_(2, run, joined.float())
    return solid & (touched.gather(2, run) > 0)


def _near(weight: Tensor, max_extent: float) -> Tensor:
    """Which places along one axis are near an object of such weight at each of them (K, n)."""
    half = weight.sum(dim=1, keepdim=True) / 2  # (K, 1)
    median = (weight.cumsum(dim=1) < half).sum(dim=1, keepdim=True)
    distance = (torch.arange(weight.shape[1], device=weight.device) - median).abs()  # (K, n)
    at_distance = torch.zeros_like(weight).scatter_add_(1, distance, weight)
    size = (at_distance.cumsum(dim=1) < half).sum(dim=1, keepdim=True)
    return (distance <= max_extent * (size + 2)) | (half == 0)


def label_pixels(masks: Tensor, background: Tensor, stretch: bool = False) -> Tensor:
    """The object that wins each pixel.

    Args:
        masks: Soft masks (K, H, W), K at least 1.
        background: What they leave (H, W).
        stretch: First bring the least value of each mask and of the background to 0 and the greatest to 1.

    Returns:
        The place of the object among the K, from 1, or 0 where none is above the background, (H, W) uint8.

    Example:
        >>> faint = torch.tensor([[[0.0, 0.3, 0.0, 0.0]]])
        >>> label_pixels(faint, 1 - faint[0]).tolist(), label_pixels(faint, 1 - faint[0], stretch=True).tolist()
        ([[0, 0, 0, 0]], [[0, 1, 0, 0]])
    """
    if stretch:
        masks, background = _stretched(masks), _stretched(background[None])[0]
    likeliest, object_ = masks.max(dim=0)  # (H, W) each
    return torch.where(likeliest > background, object_ + 1, 0).to(torch.uint8)


def _stretched(masks: Tensor) -> Tensor:
    """Masks (n, H, W), each from 0 to 1; one that is 0 everywhere stays so."""
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > 0, (masks - low) / (high - low).clamp(min=1e-12), masks)


def frame_result(
    p: Tensor, objects: list[int], size: tuple[int, int], prompt: np.ndarray | None, stretch: bool
) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
    """The ids and the probabilities of a frame; a prompt comes back to the pixel.

    Args:
        p: Soft masks (K, H, W), or (K, H', W') where nearest pixels follow.
        objects: Their ids.
        size: (H, W) of the video.
        prompt: Ids (H, W) that the frame came with, if any.
        stretch: As for `label_pixels`.

    Returns:
        Ids (H, W) uint8; and what gives the probabilities (K+1, H, W) float32 of background and objects, where they
        are asked for.
    """
    background = 1 - p.sum(dim=0)
    ids: np.ndarray = np.array([0, *objects], np.uint8)[label_pixels(p, background, stretch).cpu().numpy()]
    if ids.shape != size:
        ids = resize_nearest(ids, size)
    shown = np.zeros(size, np.bool_) if prompt is None else (prompt != 0) & (prompt != IGNORE)
    if prompt is not None:
        ids[shown] = prompt[shown]

    def probabilities() -> np.ndarray:
        found: np.ndarray = torch.cat([background[None], p]).float().clamp(min=0).cpu().numpy()  # (K+1, H, W)
        if found.shape[1:] != size:
            found = resize_nearest(found, size)
        found[:, shown] = np.array([0, *objects])[:, None] == ids[shown]
        return found

    return ids, probabilities
