"""Tiles, bands, and bands with products in fp16: one search, whatever the way."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from vos_umec.matching import bands, topk
from vos_umec.matching.bands import search_all_in_bands, search_window_in_bands
from vos_umec.matching.topk import gather_values, top_k_affinity

WAYS = {
    "tiles": {"_TILED": ("cpu",)},
    "bands": {"_TILED": ()},
    "bands, fp16": {"_TILED": (), "_HALF": ("cpu",)},
}


def unit_keys(N, h, w, D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(N, h, w, D, generator=generator, dtype=torch.float64), dim=-1)


def dense_affinity(key_q, keys_r, permanent, top_k, tau, radius, permanent_radius, copies, window):
    """The same from all scores at once (h*w, N*h*w), in fp64."""
    N, h, w, _ = keys_r.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    dy, dx = (a.flatten()[:, None] - a.flatten() for a in (y, x))
    away = torch.hypot(dy.double(), dx.double()) if window == "disc" else torch.maximum(dy.abs(), dx.abs())
    # The copies are references behind the others, within `radius`.
    held = torch.cat([keys_r, keys_r[:1].expand(copies if permanent else 0, -1, -1, -1)])
    reach = [permanent_radius if n < permanent else radius for n in range(len(held))]
    scores = torch.einsum("yxd,nvud->yxnvu", key_q, held).flatten(0, 1).flatten(2)  # (h*w, N, h*w)
    for n, each in enumerate(reach):
        if each is not None:
            scores[:, n].masked_fill_(away >= each, -torch.inf)
    best, cells = scores.flatten(1).topk(min(top_k, scores[0].numel()))
    A = torch.zeros(scores.flatten(1).shape, dtype=scores.dtype)
    A = A.scatter(1, cells, torch.softmax(best / tau, dim=1)).unflatten(1, (-1, h * w))
    A[:, 0] += A[:, N:].sum(dim=1)
    return A[:, :N].flatten(1)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.integers(1, 21), st.integers(1, 4), st.integers(1, 12), st.data())
def test_every_way_gives_the_dense_affinity(way, h, w, N, top_k, data):
    permanent, copies = data.draw(st.integers(0, N)), data.draw(st.sampled_from([0, 0, 2, 14]))
    radius, permanent_radius = (data.draw(st.sampled_from([None, 0.5, 1, 2.5, 4, 12])) for _ in range(2))
    window = data.draw(st.sampled_from(["disc", "square"]))
    keys = unit_keys(N + 1, h, w, 8, seed=100 * h + w)
    arguments = (permanent, top_k, 0.1, radius, permanent_radius, copies)
    parts = {
        "_COLUMNS": data.draw(st.sampled_from([3, 64])),
        "_BYTES": data.draw(st.sampled_from([1, 2**16, 2**29])),
    }
    with mock.patch.multiple(topk, **WAYS[way]), mock.patch.multiple(bands, **parts):
        best = top_k_affinity(keys[-1].float(), keys[:-1].float(), *arguments, window=window)
    assert 0 <= best.index.min() <= best.index.max() < N * h * w  # a GPU ends the process at any other
    A = torch.zeros(h * w, N * h * w).scatter_add(1, best.index, best.weight)
    expected = dense_affinity(keys[-1], keys[:-1], *arguments, window)
    torch.testing.assert_close(A, expected.float(), atol=1e-5, rtol=1e-4)
    values = torch.rand(N, h, w, 3)
    torch.testing.assert_close(gather_values(best, values), A @ values.flatten(0, 2), atol=1e-5, rtol=1e-4)


def frames_of_a_video(N=7, h=22, w=30, D=64):
    """Unit-norm keys (N, h, w, D) that are alike from cell to cell and from frame to frame, but not the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, D, 2, h // 3, w // 3, generator=generator)
    smooth = F.interpolate(coarse, size=(N, h, w), mode="trilinear", align_corners=True)[0].permute(1, 2, 3, 0)
    return F.normalize(smooth + 0.15 * torch.randn(smooth.shape, generator=generator), dim=-1).contiguous()


@pytest.mark.parametrize("search", [search_all_in_bands, search_window_in_bands])
def test_candidates_by_fp16_hold_the_cells_that_fp32_finds(search):
    keys = frames_of_a_video()
    arguments = (keys[-1], keys[:-1], 10, *([] if search is search_all_in_bands else [6]))
    scores, index = search(*arguments)
    with_half, index_half = search(*arguments, half=True)
    assert torch.equal(index_half.sort(dim=1).values, index.sort(dim=1).values)
    torch.testing.assert_close(with_half, scores, atol=1e-6, rtol=0)


def test_where_hundreds_of_cells_nearly_tie_fp16_finds_others_that_score_the_same_within_its_error():
    generator = torch.Generator().manual_seed(0)
    keys = F.normalize(1 + 0.03 * torch.randn(5, 16, 16, 64, generator=generator), dim=-1)
    scores, index = search_all_in_bands(keys[-1], keys[:-1], 10)
    with_half, index_half = search_all_in_bands(keys[-1], keys[:-1], 10, half=True)
    assert (index_half.sort(dim=1).values != index.sort(dim=1).values).any()  # it is not exact here
    assert 0 < (scores - with_half).max() < 2 * 0.0015
    own = torch.einsum("qkd,qd->qk", keys[:-1].flatten(0, 2)[index_half], keys[-1].flatten(0, 1))
    torch.testing.assert_close(with_half, own)  # scores are those of fp32, whatever chose the cells


class _Made(TorchDispatchMode):
    """Counts the operations that a GPU would be given, and notes the largest tensor that they make, in bytes."""

    largest = operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operations += 1
            for tensor in made if isinstance(made, tuple) else [made]:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("h", "w", "N", "most"), [(60, 107, 20, 200), (135, 240, 20, 1000), (180, 320, 1, 2000)])
def test_the_search_waits_for_nothing_and_is_bounded_in_memory_and_steps(half, h, w, N, most):
    # Tensors of the meta device have no values: whatever asks for one, as a wait for a GPU does, raises.
    key_q, keys = torch.empty(h, w, 256, device="meta"), torch.empty(N, h, w, 256, device="meta")
    with _Made() as made:
        for scores, index in (
            search_window_in_bands(key_q, keys, 10, 12, half),
            search_all_in_bands(key_q, keys[:1], 10, half),
        ):
            assert scores.shape == index.shape == (h * w, 10)
    assert made.largest <= 2**29
    assert made.operations <= most
