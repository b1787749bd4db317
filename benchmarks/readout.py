"""The windowed top-k read-out at 480p: ours against CRW's form, its parts, and how it grows."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from crw import dense_top_k, window_mask
from harness import Comparison, Curve, Result, compare, main, scale
from torch import Tensor

from vos_umec.matching.coarse_to_fine import halve_keys
from vos_umec.matching.search import Scratch
from vos_umec.matching.topk import TopK, gather_values, top_k_affinity

H, W, N, D, K, DV, TOP_K, TAU, RADIUS = 60, 107, 21, 256, 3, 128, 10, 0.05, 12
RANKED = "which takes the same time whatever the size"


def crw_form(key_q: Tensor, keys_r: Tensor, permanent: int) -> Callable[[Tensor], tuple[TopK, Tensor]]:
    """CRW's way; what does not change from frame to frame, the mask and the layout, is made here and not timed."""
    q = key_q.flatten(0, 1).T.contiguous()  # (D, h*w)
    r = keys_r.flatten(1, 2).permute(2, 0, 1).contiguous()  # (D, N, h*w)
    mask = window_mask(H, W, RADIUS)

    def read(masks: Tensor) -> tuple[TopK, Tensor]:
        index, weight = dense_top_k(q, r, permanent, mask, TOP_K, TAU)
        best = TopK(index, weight, weight.log())  # scores but for a constant
        return best, (masks.flatten(0, 2)[best.index] * best.weight[:, :, None]).sum(dim=1)

    return read


def same_cells(key_q: Tensor, keys_r: Tensor) -> Callable[[dict[str, Any]], str]:
    """Checks that all ways chose the same cells for every query, or cells of the same score."""

    def check(results: dict[str, Any]) -> str:
        (ours, ours_masks), (other, other_masks) = list(results.values())[:2]
        a, b = ours.index.sort(dim=1).values, other.index.sort(dim=1).values
        differ = (a != b).any(dim=1).nonzero()[:, 0]
        q, r = key_q.flatten(0, 1)[differ].double(), keys_r.flatten(0, 2)
        exact = [torch.einsum("qd,qkd->qk", q, r[i[differ]].double()).sort(dim=1).values for i in (a, b)]
        torch.testing.assert_close(*exact, atol=1e-6, rtol=0)
        torch.testing.assert_close(ours.weight, other.weight, atol=2e-5, rtol=1e-4)
        same = (a == b).all(dim=1)  # cells that tie may hold different masks
        torch.testing.assert_close(ours_masks[same], other_masks[same], atol=1e-4, rtol=1e-4)
        worst = (exact[0] - exact[1]).abs().max().item() if len(differ) else 0.0
        return (
            f"the same cells for {len(a) - len(differ)} of {len(a)} queries; {len(differ)} others chose cells that "
            f"tie in fp32 (exact scores at most {worst:.1e} apart)"
        )

    return check


def ours(key_q: Tensor, keys_r: Tensor, permanent: int) -> Callable[[Tensor], tuple[TopK, Tensor]]:
    """Our way, on the layout and with the working memory that the reference memory holds."""
    scratch = Scratch()

    def read(masks: Tensor) -> tuple[TopK, Tensor]:
        best = top_k_affinity(key_q, keys_r, permanent, TOP_K, TAU, RADIUS, scratch=scratch)
        return best, gather_values(best, masks)

    return read


def against_crw(title: str, keys: Tensor, permanent: int, wanted: str = "", rounds: int = 3) -> Comparison:
    """One comparison; `keys` (N + 1, h, w, D), the query last."""
    masks = torch.rand(N, H, W, K)
    mine, crw = ours(keys[-1], keys[:-1], permanent), crw_form(keys[-1], keys[:-1], permanent)
    ways = {"ours": lambda: mine(masks), "CRW's form": lambda: crw(masks)}
    return compare(title, ways, same_cells(keys[-1], keys[:-1]), rounds, wanted)


def random_keys(n: int, h: int = H, w: int = W, d: int = D) -> Tensor:
    return F.normalize(torch.randn(n, h, w, d), dim=-1)


def smooth_keys(n: int) -> Tensor:
    """Keys as a network gives them: nearly alike from cell to cell and frame to frame, thousands of near ties."""
    coarse = torch.randn(1, D, 2, 8, 14)
    smooth = F.interpolate(coarse, size=(n, H, W), mode="trilinear", align_corners=True)[0]  # (D, n, h, w)
    return F.normalize(smooth.permute(1, 2, 3, 0).contiguous(), dim=-1)


def halved(keys: Tensor) -> Comparison:
    """Our way on fp32 and on bf16 keys."""
    masks, short = torch.rand(N, H, W, K), keys.bfloat16()
    fp32, bf16 = ours(keys[-1], keys[:-1], 0), ours(short[-1], short[:-1], 0)

    def check(results: dict[str, Any]) -> str:
        a, b = (best.index.sort(dim=1).values for best, _ in results.values())
        return (
            f"not exact: {100 * (a != b).any(dim=1).float().mean():.0f} % of the queries chose another cell or more"
        )

    return compare(
        "read-out with bf16 keys, all else as above",
        {"bf16 keys": lambda: bf16(masks), "fp32 keys": lambda: fp32(masks)},
        check,
    )


def coarse_to_fine(keys: Tensor, parents: int) -> Comparison:
    """The search at half the size first against the one that compares all cells."""
    halved = halve_keys(keys[:-1])  # the reference memory holds them
    scratch = Scratch()

    def search(**settings: Any) -> TopK:
        return top_k_affinity(keys[-1], keys[:-1], 1, TOP_K, TAU, RADIUS, scratch=scratch, **settings)

    def check(results: dict[str, Any]) -> str:
        ours, exact = results.values()
        common = (ours.index[:, :, None] == exact.index[:, None]).any(dim=2).float().mean()
        lost = (exact.score - ours.score).mean()
        return f"not exact: {100 * common:.0f} % of the best cells, scores lower by {lost:.4f} in the mean"

    return compare(
        f"read-out, cells inside the {parents} best coarse cells, first frame without a window, smooth keys",
        {
            "from coarse to fine": lambda: search(coarse_to_fine=parents, halved=halved),
            "all cells": search,
        },
        check,
    )


def embeddings(keys: Tensor) -> Comparison:
    """Mask embeddings of K objects read out along indices that are there already."""
    best = top_k_affinity(keys[-1], keys[:-1], 0, TOP_K, TAU, RADIUS)
    values = torch.randn(N, H, W, K * DV)

    def plain() -> Tensor:
        return torch.einsum("qkc,qk->qc", values.flatten(0, 2)[best.index], best.weight)

    def check(results: dict[str, Any]) -> str:
        torch.testing.assert_close(*results.values(), atol=1e-5, rtol=1e-4)
        return "equal values"

    return compare(
        f"mask embeddings of {K} objects x {DV} channels, gathered along the indices",
        {"ours": lambda: gather_values(best, values), "indexing, then a weighted sum": plain},
        check,
    )


def curves() -> list[Curve]:
    def references(n: int) -> Callable[[], Any]:
        keys = random_keys(n + 1)
        return lambda: top_k_affinity(keys[-1], keys[:-1], 0)

    def cells(n: int) -> Callable[[], Any]:
        h = round(math.sqrt(n * 9 / 16))
        keys = random_keys(6, h, round(n / h))
        return lambda: top_k_affinity(keys[-1], keys[:-1], 0)

    def first_frame(n: int) -> Callable[[], Any]:
        h = round(math.sqrt(n * 9 / 16))
        keys = random_keys(2, h, round(n / h))
        return lambda: top_k_affinity(keys[-1], keys[:-1], 1)

    def channels(d: int) -> Callable[[], Any]:
        keys = random_keys(N + 1, d=d)
        return lambda: top_k_affinity(keys[-1], keys[:-1], 0)

    def objects(k: int) -> Callable[[], Any]:
        values = torch.randn(N, H, W, k * DV)
        return lambda: gather_values(best, values)

    keys = random_keys(N + 1)
    best = top_k_affinity(keys[-1], keys[:-1], 0)
    at = f"{H} x {W} cells"
    sizes = (1620, 3600, 6420, 14400, 25680)
    return [
        scale(f"read-out, {at}, {D} channels", "references", (5, 10, 20, 40), references,
            notes=f"positions are ranked once for all references, {RANKED}"),
        scale(
            f"read-out, 5 references, {D} channels", "cells", sizes, cells,
            notes="a small grid's windows are cut by its border more often",
        ),
        scale(
            f"read-out of one whole reference, {D} channels", "cells", sizes[:4], first_frame, 1, expected=2,
            notes=f"every cell is compared with every cell; the few best groups are ranked once a query, {RANKED}",
        ),
        scale(
            f"read-out, {at}, {N} references", "channels", (64, 128, 256, 512), channels,
            notes=f"scores are ranked, {RANKED}",
        ),
        scale(f"gathering embeddings, {at}, {DV} channels an object", "objects", (1, 2, 4, 8), objects),
    ]  # fmt: skip


def run() -> list[Result]:
    torch.manual_seed(0)
    size = f"{H} x {W} cells, {D} channels, first + {N - 1} references, radius {RADIUS}, top {TOP_K}, {K} masks"
    keys = random_keys(N + 1)
    return [
        against_crw(
            f"read-out, {size}", keys, 0, "25 times faster, the same cells but for ties, under 100 MiB", rounds=5
        ),
        against_crw("the same, first frame without a window", keys, 1),
        against_crw("the same as the first, smooth keys", smooth_keys(N + 1), 0, rounds=2),
        halved(keys),
        coarse_to_fine(smooth_keys(N + 1), parents=16),
        embeddings(keys),
        *curves(),
    ]


if __name__ == "__main__":
    main(run)
