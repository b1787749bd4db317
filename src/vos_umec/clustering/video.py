"""From frames to segments: read, encode and cluster a window of one video. Knows nothing of Lightning."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import blake2b

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vos_umec.clustering.segments import SegmentsResult, SpaceTimeClusterer
from vos_umec.device import multiplies_bf16
from vos_umec.errors import ConfigError
from vos_umec.io.frames import resized
from vos_umec.io.source import FrameSource
from vos_umec.models.encoder import Encoder
from vos_umec.transforms.augment import normalize

CPU_FRAMES, OTHER_FRAMES = 4, 32
"""Frames encoded at once; on a CPU more took up to 1.6 times longer a frame, being too much for its caches."""


def video_seed(video: str, refresh: int) -> int:
    """A seed that depends on the video and the refresh alone, not on rank, order or Python's own hash.

    Args:
        video: Id of the video.
        refresh: Number of the refresh.

    Returns:
        An integer in [0, 2^31).

    Example:
        >>> video_seed("zoo/bear.mp4", 1), video_seed("zoo/bear.mp4", 2)
        (62871413, 1376522906)
    """
    digest = blake2b(f"{refresh}:{video}".encode("utf-8", "surrogateescape"), digest_size=4).digest()
    return int.from_bytes(digest) % 2**31


def frame_window(frames: int, count: int, gap: int, seed: int) -> NDArray[np.int64]:
    """Draw a window of a video: up to `count` frames, `gap` apart, from a random start.

    A video that is too short for that is taken whole, closer frames of it where fewer than half of `count` would
    remain.

    Args:
        frames: Frames of the video, at least 1.
        count: Frames wanted, at least 1.
        gap: Steps from one frame to the next, at least 1.
        seed: Seed of the draw.

    Returns:
        (T,) ascending frame numbers, T <= count.

    Raises:
        ConfigError: If a number is below 1.

    Example:
        >>> frame_window(100, count=4, gap=3, seed=0).tolist(), frame_window(5, count=8, gap=2, seed=0).tolist()
        ([77, 80, 83, 86], [0, 1, 2, 3, 4])
    """
    if min(frames, count, gap) < 1:
        raise ConfigError(f"a window of {count} frames, {gap} apart, of {frames}; expected at least 1 of each")
    while gap > 1 and 2 * -(-frames // gap) < count:
        gap -= 1
    count = min(count, -(-frames // gap))
    start = np.random.default_rng(seed).integers(frames - (count - 1) * gap)
    return np.asarray(start + gap * np.arange(count), dtype=np.int64)


def cluster_video(
    source: FrameSource,
    encoder: Encoder,
    clusterer: SpaceTimeClusterer,
    indices: Sequence[int],
    short_side: int,
    seed: int,
    device: torch.device,
) -> tuple[SegmentsResult, NDArray[np.uint8]]:
    """Segment frames of a video into space-time clusters (UMEC eq. 1).

    Args:
        source: The video.
        encoder: E, on `device`; left in the mode it came in.
        clusterer: Makes segments of keys.
        indices: T frame numbers, ascending.
        short_side: Short side in pixels at which frames are read and segments made.
        seed: Seed of the clustering; see `video_seed`.
        device: Where to compute.

    Returns:
        Segments (T, H, W) with their health, and the frames (T, H, W, 3) uint8 they are of, for pictures.

    Raises:
        VideoReadError: If a frame cannot be read.
        DataError: If the video has too few cells to cluster, or keys are not finite.

    Example:
        >>> from vos_umec.models.factory import build_network
        >>> class Grey:
        ...     size = (16, 24)
        ...     def read(self, indices, size):
        ...         return np.full((len(indices), *size, 3), 127, np.uint8)
        >>> E = build_network("tiny").encoder
        >>> result, frames = cluster_video(Grey(), E, SpaceTimeClusterer(), [0, 2], 18, 0, torch.device("cpu"))
        >>> result.segments.shape, frames.shape
        ((2, 18, 27), (2, 18, 27, 3))
    """
    frames = source.read(indices, resized(source.size, short_side))  # (T, H, W, 3)
    keys = encode_frames(frames, encoder, device)
    return cluster_keys(keys, clusterer, (frames.shape[1], frames.shape[2]), encoder.stride, seed), frames


def encode_frames(frames: NDArray[np.uint8], encoder: Encoder, device: torch.device) -> Tensor:
    """E's keys of frames, without gradients, in bf16 where the hardware multiplies in it.

    Args:
        frames: (T, H, W, 3) uint8 RGB; the last row and column are repeated up to whole cells.
        encoder: E, on `device`; left in the mode it came in.
        device: Where to compute.

    Returns:
        Keys (T, D, h, w).

    Example:
        >>> from vos_umec.models.factory import build_network
        >>> E = build_network("tiny").encoder
        >>> tuple(encode_frames(np.zeros((2, 18, 27, 3), np.uint8), E, torch.device("cpu")).shape)
        (2, 64, 5, 7)
    """
    batch = CPU_FRAMES if device.type == "cpu" else OTHER_FRAMES
    bf16 = torch.autocast(device.type, torch.bfloat16) if multiplies_bf16(device) else nullcontext()
    # Not inference_mode: what a module caches in it could not take part in training afterwards.
    with _evaluating(encoder), torch.no_grad(), bf16:
        keys = [
            encoder(_padded(normalize(part.to(device).permute(0, 3, 1, 2)), encoder.stride)).key  # (b, D, h, w)
            for part in torch.from_numpy(frames).split(batch)
        ]
    return torch.cat(keys)


def cluster_keys(
    keys: Tensor, clusterer: SpaceTimeClusterer, size: tuple[int, int], stride: int, seed: int
) -> SegmentsResult:
    """Segments of the frames that some keys are of.

    Args:
        keys: What `encode_frames` gave (T, D, h, w).
        clusterer: Makes segments of them.
        size: (H, W) of the frames, at most (h, w) times the stride.
        stride: E's, s.
        seed: Seed of the clustering; see `video_seed`.

    Returns:
        Segments (T, H, W) with their health.

    Raises:
        DataError: If there are too few cells to cluster, or keys are not finite.

    Example:
        >>> cluster_keys(torch.rand(2, 8, 5, 7), SpaceTimeClusterer(), (18, 27), stride=4, seed=0).segments.shape
        (2, 18, 27)
    """
    padded = (keys.shape[-2] * stride, keys.shape[-1] * stride)
    result = clusterer(keys, padded, seed)
    return SegmentsResult(np.ascontiguousarray(result.segments[:, : size[0], : size[1]]), result.health)


def _padded(x: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of the stride."""
    H, W = x.shape[-2:]
    return F.pad(x, (0, -W % stride, 0, -H % stride), mode="replicate")


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then each submodule as it was, a frozen one too."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
