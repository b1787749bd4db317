"""One video into segments: draw a window of frames, encode them, cluster their keys (UMEC eq. 1)."""

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
from vos_umec.io.frames import Frame, resized
from vos_umec.io.source import FrameSource
from vos_umec.models.encoder import Encoder
from vos_umec.transforms.augment import normalize

CPU_FRAMES, OTHER_FRAMES = 4, 32
"""Frames encoded at once. On a CPU more frames overflow its caches: up to 1.6 times longer a frame."""


def video_seed(video: str, refresh: int) -> int:
    """A seed that depends on the video and the refresh alone, so that every process would draw the same.

    Args:
        video: Id of the video.
        refresh: Number of the refresh.

    Returns:
        An integer in [0, 2^31).
    """
    digest = blake2b(f"{refresh}:{video}".encode("utf-8", "surrogateescape"), digest_size=4).digest()
    return int.from_bytes(digest) % 2**31


def frame_window(frames: int, count: int, gap: int, seed: int) -> NDArray[np.int64]:
    """Draw a window of a video: up to `count` frames, `gap` apart, from a random start.

    A shorter video is covered whole, and with a smaller gap where fewer than `count` / 2 frames would remain.

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
) -> tuple[SegmentsResult, Frame]:
    """Partition frames of a video into space-time segments (UMEC eq. 1).

    Args:
        source: The video.
        encoder: The encoder E, on `device`; its training mode is restored afterwards.
        clusterer: Makes segments from keys.
        indices: T frame numbers, ascending.
        short_side: Short side of the frames and of the segments in pixels.
        seed: Seed of the clustering; see `video_seed`.
        device: Where to compute.

    Returns:
        Segments (T, H, W) with their health, and the frames themselves (T, H, W, 3) uint8.

    Raises:
        VideoReadError: If a frame cannot be read.
        DataError: If the video has too few cells to cluster, or keys are not finite.
    """
    frames = source.read(indices, resized(source.size, short_side))  # (T, H, W, 3)
    keys = encode_frames(frames, encoder, device)
    return cluster_keys(keys, clusterer, (frames.shape[1], frames.shape[2]), encoder.stride, seed), frames


def encode_frames(frames: Frame, encoder: Encoder, device: torch.device) -> Tensor:
    """The encoder's keys of frames, without gradients, in bf16 where the hardware multiplies in it.

    Args:
        frames: (T, H, W, 3) uint8 RGB; the last row and column are repeated to fill whole cells.
        encoder: The encoder E, on `device`; its training mode is restored afterwards.
        device: Where to compute.

    Returns:
        Keys (T, D, h, w).
    """
    batch = CPU_FRAMES if device.type == "cpu" else OTHER_FRAMES
    bf16 = torch.autocast(device.type, torch.bfloat16) if multiplies_bf16(device) else nullcontext()
    # Not inference_mode: tensors that a module caches there could not take part in training afterwards.
    with _evaluation_mode(encoder), torch.no_grad(), bf16:
        keys = []
        for part in torch.from_numpy(frames).split(batch):  # (b, H, W, 3)
            x = normalize(part.to(device, non_blocking=True).permute(0, 3, 1, 2))  # (b, 3, H, W)
            keys.append(encoder(_padded(x, encoder.stride)).key)  # (b, D, h, w)
    return torch.cat(keys)


def cluster_keys(
    keys: Tensor, clusterer: SpaceTimeClusterer, size: tuple[int, int], stride: int, seed: int
) -> SegmentsResult:
    """Segments of frames from their keys.

    Args:
        keys: What `encode_frames` returned (T, D, h, w).
        clusterer: Makes segments from keys.
        size: (H, W) of the frames, at most (h, w) times the stride.
        stride: Stride s of the encoder.
        seed: Seed of the clustering; see `video_seed`.

    Returns:
        Segments (T, H, W) with their health.

    Raises:
        DataError: If there are too few cells to cluster, or keys are not finite.
    """
    result = clusterer(keys, (keys.shape[-2] * stride, keys.shape[-1] * stride), seed)
    return SegmentsResult(np.ascontiguousarray(result.segments[:, : size[0], : size[1]]), result.health)


def _padded(x: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of the stride."""
    H, W = x.shape[-2:]
    return F.pad(x, (0, -W % stride, 0, -H % stride), mode="replicate")


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards each submodule is as it was, so that frozen ones stay frozen."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
