"""Label propagation as CRW's test script does it, the peer: dense affinities, the window an additive mask."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.transforms.augment import normalize

CHUNK = 100  # query cells at a time


def window_mask(h: int, w: int, radius: float) -> Tensor:
    """0 within the radius, a large negative number elsewhere (h*w, h*w)."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([y, x], dim=-1).view(-1, 2).float()
    return torch.where(torch.cdist(place, place) < radius, 0.0, -1e10)


def dense_top_k(
    key_q: Tensor, keys_r: Tensor, permanent: int, mask: Tensor, top_k: int, tau: float
) -> tuple[Tensor, Tensor]:
    """100 query cells at a time against every cell of every reference; the best of them all.

    Args:
        key_q: Key of the query (D, h*w).
        keys_r: Keys of the references (D, N, h*w).
        permanent: How many of the references, the first ones, have no window.
        mask: Of `window_mask`.
        top_k: Cells kept for each query cell.
        tau: Temperature.

    Returns:
        Positions in the N*h*w reference cells, and weights (h*w, k).
    """
    weights, indices = [], []
    for start in range(0, key_q.shape[1], CHUNK):
        A = torch.einsum("dnr,dq->nrq", keys_r, key_q[:, start : start + CHUNK])
        A[permanent:] += mask[:, start : start + CHUNK]
        A = A.flatten(0, 1)  # (N*h*w, q)
        A /= tau
        best, index = A.topk(top_k, dim=0)
        weights.append(torch.softmax(best, dim=0))
        indices.append(index)
    return torch.cat(indices, dim=1).T, torch.cat(weights, dim=1).T


class CrwPropagation:
    """A video, frame by frame; the first frame unrestricted, the encoder in fp32, as it was trained.

    Args:
        encoder: E.
        references: Last frames kept beside the first one.
        radius: Window on them, in cells.
        top_k: Cells kept for each query cell.
        tau: Temperature.
    """

    def __init__(self, encoder: torch.nn.Module, references: int, radius: float, top_k: int, tau: float) -> None:
        self.encoder = encoder
        self.references, self.radius, self.top_k, self.tau = references, radius, top_k, tau
        self.keys: list[Tensor] = []  # (D, h*w) each
        self.masks: list[Tensor] = []  # (h*w, K) each

    @torch.inference_mode()
    def encode(self, frame: np.ndarray) -> Tensor:
        """Key of a frame (D, h*w)."""
        image = normalize(torch.from_numpy(frame).permute(2, 0, 1)[None].contiguous())
        image = F.pad(image, (0, -image.shape[-1] % 8, 0, -image.shape[-2] % 8), mode="replicate")
        key: Tensor = self.encoder(image).key[0]
        self.size, self.grid = tuple(image.shape[-2:]), tuple(key.shape[-2:])
        return key.flatten(1).contiguous()

    def remember(self, key: Tensor, masks: Tensor) -> None:
        """Keep a reference; the oldest but the first one goes."""
        self.keys.append(key)
        self.masks.append(masks)
        if len(self.keys) > self.references + 1:
            del self.keys[1], self.masks[1]

    @functools.cached_property
    def window(self) -> Tensor:
        """Made once for a video."""
        return window_mask(*self.grid, self.radius)

    @torch.inference_mode()
    def step(self, frame: np.ndarray) -> np.ndarray:
        """Ids (H, W) of the next frame."""
        key = self.encode(frame)
        keys, masks = torch.stack(self.keys, dim=1), torch.cat(self.masks)  # (D, N, h*w), (N*h*w, K)
        index, weight = dense_top_k(key, keys, 1, self.window, self.top_k, self.tau)
        carried = (masks[index] * weight[:, :, None]).sum(dim=1)  # (h*w, K)
        self.remember(key, carried)
        p = carried.T.unflatten(1, self.grid)[None]
        p = F.interpolate(p, size=self.size, mode="bilinear", align_corners=False)[0]
        p = p[:, : frame.shape[0], : frame.shape[1]]
        return torch.cat([1 - p.sum(dim=0, keepdim=True), p]).argmax(dim=0).to(torch.uint8).numpy()
