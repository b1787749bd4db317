"""The windowed top-k read-out against a straightforward dense one, alternating in one process."""

import resource
import statistics
import time

import torch
import torch.nn.functional as F

from vos_umec.inference.readout import gather_values, top_k_affinity

h, w, D, N, K, TOP_K, RADIUS, TAU = 60, 107, 64, 21, 3, 10, 12, 0.05


def dense(key_q: torch.Tensor, keys_r: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Every query against every reference cell, 100 queries at a time, the window as a mask."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([y, x], dim=-1).view(-1, 2).float()  # (h*w, 2)
    flat, values = keys_r.view(N, h * w, D), masks.view(N * h * w, K)
    rows = []
    for start in range(0, h * w, 100):
        scores = torch.einsum("qd,nrd->qnr", key_q.view(-1, D)[start : start + 100], flat)
        outside = torch.cdist(place[start : start + 100], place) >= RADIUS  # (q, h*w)
        scores[:, 1:] = scores[:, 1:].masked_fill(outside[:, None], -torch.inf)  # not on the first frame
        best, index = scores.flatten(1).topk(TOP_K, dim=1)
        rows.append((torch.softmax(best / TAU, dim=1)[:, :, None] * values[index]).sum(dim=1))
    return torch.cat(rows)


def tiled(key_q: torch.Tensor, keys_r: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Ours."""
    return gather_values(top_k_affinity(key_q, keys_r, 1, TOP_K, TAU, RADIUS), masks)


def run(pairs: int = 3) -> str:
    """Time both in turn, check that they agree, and say how they compare."""
    torch.manual_seed(0)
    keys = F.normalize(torch.randn(N + 1, h, w, D), dim=-1)
    masks = torch.rand(N, h, w, K)
    seconds: dict[str, list[float]] = {"dense": [], "tiled": []}
    for _ in range(pairs):
        results = []
        for name, function in (("tiled", tiled), ("dense", dense)):
            start = time.perf_counter()
            results.append(function(keys[-1], keys[:-1], masks))
            seconds[name].append(time.perf_counter() - start)
        torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
    ratio = statistics.median(d / t for d, t in zip(seconds["dense"], seconds["tiled"], strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"read-out, {h} x {w} cells, {N} references, D = {D}: dense {statistics.median(seconds['dense']):.2f} s, "
        f"tiled {statistics.median(seconds['tiled']):.2f} s, ratio {ratio:.1f}; peak of the process {peak:.0f} MiB"
    )
