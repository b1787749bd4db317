"""Memory whose cells count by how far the coarse and the refined masks agreed about them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from segmenter_toys import ColorEncoder, scene

from vos_umec.inference.memory import ReferenceMemory, agreement, read_memory
from vos_umec.inference.refinement import Window
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.matching.readout import Readout
from vos_umec.matching.topk import top_k_affinity
from vos_umec.models.factory import build_network

h, w, D, K, Dv = 6, 8, 4, 2, 3


def remember(memory, trust, prompted=()):
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    memory.add(key, torch.rand(h, w, K) / K, torch.randn(h, w, K, Dv), prompted, trust)


def refining_network():
    """A network whose untrained decoder disagrees with the coarse masks."""
    torch.manual_seed(0)
    network = build_network({"preset": "tiny", "decoder": {"residual": False}})
    network.encoder = ColorEncoder()
    return network


def test_masks_and_embeddings_are_read_with_weights_times_trust():
    """Against sums written out cell by cell."""
    torch.manual_seed(0)
    memory = ReferenceMemory(references=2, weigh=True)
    remember(memory, None, prompted=[0, 1])
    for _ in range(3):  # the ring goes round
        remember(memory, torch.rand(h, w))
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    found = read_memory(memory, key, Readout(top_k=4, radius=4), tau=0.1)
    best = top_k_affinity(key, memory.keys, 1, 4, 0.1, 4, None)
    trust, masks, values = memory.trust.flatten(), memory.masks.flatten(0, 2), memory.values.flatten(0, 2)
    assert (memory.trust[0] == 1).all()
    coarse, V_q = torch.zeros(K, h * w), torch.zeros(K, Dv, h * w)
    for q in range(h * w):
        shares = [float(best.weight[q, j]) * float(trust[best.index[q, j]]) for j in range(4)]
        for j, share in enumerate(shares):
            coarse[:, q] += share / sum(shares) * masks[best.index[q, j]]
            V_q[:, :, q] += share / sum(shares) * values[best.index[q, j]]
    torch.testing.assert_close(found.coarse(), coarse.view(K, h, w))
    for k in range(K):
        torch.testing.assert_close(found.values(k, Window(0, 0, h, w)), V_q[k].view(Dv, h, w))


@pytest.mark.parametrize("trust", [1.0, 0.4, 0.0])
def test_cells_of_equal_trust_are_read_as_if_none_were_weighed(trust):
    plain, weighed = ReferenceMemory(references=2), ReferenceMemory(references=2, weigh=True)
    for memory in (plain, weighed):
        torch.manual_seed(1)
        for _ in range(3):
            remember(memory, torch.full((h, w), trust))
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    settings = Readout(top_k=3, radius=3)
    one, other = (read_memory(memory, key, settings, tau=0.1) for memory in (plain, weighed))
    torch.testing.assert_close(one.coarse(), other.coarse())


def test_what_was_not_searched_for_stays_background():
    torch.manual_seed(0)
    memory = ReferenceMemory(references=2, weigh=True)
    remember(memory, None, prompted=[0, 1])
    masks = torch.zeros(h, w, K)
    masks[:2, :2] = 0.5
    memory.add(F.normalize(torch.randn(h, w, D), dim=-1), masks, torch.zeros(h, w, K, Dv), (), torch.rand(h, w))
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    found = read_memory(memory, key, Readout(top_k=4, radius=4), tau=0.1, margin=1)
    read = found.coarse()
    assert (read[:, 3:, 3:] == 0).all()
    assert (read[:, :2, :2].sum(dim=0) > 0).all()


@given(seed=st.integers(0, 1000), objects=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_agreement_is_the_square_of_what_two_distributions_share(seed, objects):
    rng = torch.Generator().manual_seed(seed)
    p, q = (torch.rand(objects + 1, h, w, generator=rng).pow(3) for _ in range(2))
    p, q = p / p.sum(dim=0), q / q.sum(dim=0)  # channel 0 is the background
    shared = torch.minimum(p, q).sum(dim=0)
    torch.testing.assert_close(agreement(p[1:], q[1:]), shared**2)
    assert (agreement(p[1:], p[1:]) > 1 - 1e-5).all()


def test_a_cell_on_which_the_decoder_disagrees_counts_less():
    network = refining_network()
    segmenter = VideoSegmenter(network, rounds=1, bf16=False, memory_masks="coarse", weigh_memory=True)
    for t in range(3):
        frame, truth = scene({3: (4 * t, 0)})
        _, p = segmenter.step(frame, truth if t == 0 else None, return_probabilities=True)
    refined = F.avg_pool2d(torch.from_numpy(p[1:]), 4)  # (1, h, w)
    vote = segmenter.memory.last.permute(2, 0, 1)
    torch.testing.assert_close(segmenter.memory.trust[2], agreement(vote, refined), atol=1e-4, rtol=0)
    assert (segmenter.memory.trust[0] == 1).all()
    assert segmenter.memory.trust[1:].min() < 0.9


@pytest.mark.parametrize("rounds", [0, 1])
def test_nothing_is_weighed_without_a_disagreement(rounds):
    """Label propagation has no second opinion, and an untrained residual decoder gives the coarse masks back."""
    torch.manual_seed(0)
    network = build_network("tiny")
    network.encoder = ColorEncoder()
    with torch.no_grad():
        network.decoder.out.weight.zero_()
        network.decoder.out.bias.zero_()
    plain, weighed = (
        VideoSegmenter(network, rounds=rounds, bf16=False, memory_masks="coarse", weigh_memory=weigh)
        for weigh in (False, True)
    )
    for t in range(4):
        frame, truth = scene({3: (4 * t, 0), 9: (16, 40)})
        one, other = (each.step(frame, truth if t == 0 else None) for each in (plain, weighed))
        np.testing.assert_array_equal(one, other)


def test_another_segmenter_goes_on_with_the_same_trust():
    network = refining_network()
    one, other = (
        VideoSegmenter(network, rounds=1, bf16=False, memory_masks="coarse", weigh_memory=True) for _ in range(2)
    )
    scenes = [scene({3: (4 * t, 0), 9: (16, 40)}) for t in range(6)]
    for t in range(3):
        one.step(scenes[t][0], scenes[t][1] if t == 0 else None)
    other.restore(one.state())
    for frame, _ in scenes[3:]:
        np.testing.assert_array_equal(one.step(frame), other.step(frame))


def test_objects_come_and_go_while_cells_are_weighed():
    network = refining_network()
    segmenter = VideoSegmenter(
        network, rounds=1, bf16=False, memory_masks="coarse", weigh_memory=True, references=2
    )
    for t in range(5):
        frame, truth = scene({3: (4 * t, 0), 9: (16, 40)})
        asked = {0: [3], 2: [9]}.get(t)
        segmenter.step(frame, truth if asked else None, ids=asked)
    segmenter.remove(3)
    assert segmenter.memory.trust.shape == (len(segmenter.memory), 12, 16)
    assert set(np.unique(segmenter.step(scene({9: (16, 40)})[0]))) <= {0, 9}
