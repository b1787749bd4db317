"""The first frame in place of missing ones, against literally repeated frames."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference.memory import ReferenceMemory, read_memory
from vos_umec.matching.topk import top_k_affinity


def dense_affinity(key_q, entries, top_k, tau):
    """A (h*w, N, h*w) from every pair of cells; `entries` are keys (h, w, D) with their windows, with repeats."""
    h, w, _ = key_q.shape
    y, x = (part.flatten() for part in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    distance = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    scores = []
    for key, radius in entries:
        product = key_q.flatten(0, 1) @ key.flatten(0, 1).T
        scores.append(product if radius is None else product.masked_fill(distance >= radius**2, -torch.inf))
    flat = torch.stack(scores, dim=1).flatten(1)  # (h*w, N*h*w)
    best, cells = flat.topk(min(top_k, flat.shape[1]), dim=1)
    A = torch.zeros_like(flat).scatter(1, cells, torch.softmax(best / tau, dim=1))
    return A.unflatten(1, (len(entries), h * w))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 3), st.integers(0, 25), st.integers(1, 12), st.data())
def test_copies_count_as_often_as_repeated_frames_do(h, w, last, copies, top_k, data):
    radius = data.draw(st.sampled_from([1, 2.5, 4, None]))
    permanent_radius = data.draw(st.sampled_from([None, 3]))
    anchors = data.draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(100 * h + w)
    keys = F.normalize(torch.randn(anchors + last + 1, h, w, 5, generator=generator), dim=-1)
    key_q, keys = keys[-1], keys[:-1]
    best = top_k_affinity(key_q, keys, anchors, top_k, 0.1, radius, permanent_radius, copies)
    found = torch.zeros(h * w, len(keys) * h * w).scatter_add(1, best.index, best.weight)

    entries = [(key, permanent_radius if n < anchors else radius) for n, key in enumerate(keys)]
    A = dense_affinity(key_q, entries + [(keys[0], radius)] * copies, top_k, 0.1)
    expected = A[:, : len(keys)].clone()
    expected[:, 0] += A[:, len(keys) :].sum(dim=1)
    torch.testing.assert_close(found, expected.flatten(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 8])
def test_the_memory_is_filled_up_to_its_size(frames):
    torch.manual_seed(0)
    memory = ReferenceMemory(references=4)
    stored = [(F.normalize(torch.randn(5, 6, 4), dim=-1), torch.rand(5, 6, 2)) for _ in range(frames)]
    for t, (key, masks) in enumerate(stored):
        memory.add(key, masks, None, anchor=t == 0)
    key = F.normalize(torch.randn(5, 6, 4), dim=-1)
    found = read_memory(memory, key, 5, 0.1, 3, None, repeat_first=True).coarse()

    last = [stored[max(t, 0)] for t in range(frames - 4, frames)]  # frames before the first are the first
    A = dense_affinity(key, [(stored[0][0], None), *((key, 3) for key, _ in last)], 5, 0.1)
    masks = torch.stack([stored[0][1], *(masks for _, masks in last)]).flatten(1, 2)  # (5, h*w, K)
    torch.testing.assert_close(found.flatten(1).T, torch.einsum("qnr,nrk->qk", A, masks), atol=1e-5, rtol=1e-4)


def test_it_is_off_by_default():
    memory = ReferenceMemory(references=4)
    key = F.normalize(torch.randn(5, 6, 4), dim=-1)
    memory.add(key, torch.rand(5, 6, 2), None, anchor=True)
    (_, best), *_ = read_memory(memory, key, 5, 0.1, 3, None).parts
    assert all(len(set(row)) == 5 for row in best.index.tolist())
