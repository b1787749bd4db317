from contextlib import nullcontext
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference.memory import ReferenceMemory, read_memory
from vos_umec.inference.refinement import Window
from vos_umec.matching import coarse_to_fine
from vos_umec.matching.readout import Readout
from vos_umec.matching.topk import top_k_affinity

h, w, D, Dv = 7, 9, 4, 5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 4))
def test_permanent_references_stay_and_the_ring_holds_the_last(permanent, references):
    memory = ReferenceMemory(references)
    for t, stays in enumerate(permanent):
        row = torch.full((1, 1, 1), float(t))
        memory.add(row, row, row[..., None], prompted=[0] if stays else [])
    kept = [t for t, stays in enumerate(permanent) if stays]
    ring = [t for t, stays in enumerate(permanent) if not stays]
    ring = ring[len(ring) - references :] if references < len(ring) else ring
    assert len(memory) == len(kept) + len(ring)
    if len(memory):
        frames = memory.keys.flatten().tolist()
        assert frames[: len(kept)] == kept
        assert sorted(frames[len(kept) :]) == ring
        assert memory.masks.flatten().tolist() == memory.values.flatten().tolist() == frames


def test_frames_from_before_an_object_do_not_know_it():
    memory = ReferenceMemory(references=3)
    memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 1), torch.ones(2, 2, 1, 5), prompted=[0])
    memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 1), torch.ones(2, 2, 1, 5))
    memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 3), torch.ones(2, 2, 3, 5), prompted=[1, 2])
    assert memory.known.tolist() == [[True, False, False], [True, True, True], [True, False, False]]
    assert memory.masks[0, ..., 1:].sum() == 0
    assert memory.values.shape == (3, 2, 2, 3, 5)


def test_frames_are_written_in_place():
    memory, places = ReferenceMemory(references=3), set()
    for t in range(10):
        prompted = [0] if t == 0 else []
        memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 1), torch.ones(2, 2, 1, 5), prompted)
        places.add((memory.keys.data_ptr(), memory.masks.data_ptr(), memory.values.data_ptr()))
    assert len(places) == 1


@pytest.mark.parametrize("values", [True, False])
def test_of_removed_objects_nothing_is_left_and_the_ring_goes_on(values):
    memory = ReferenceMemory(references=3)

    def add(t, K, prompted=()):
        row = torch.full((2, 2, 1), float(t))
        masks = t + 0.1 * torch.arange(K).expand(2, 2, K)
        memory.add(row, masks, masks[..., None].expand(2, 2, K, 5) if values else None, prompted)

    add(0, K=2, prompted=[0, 1])
    add(1, K=3, prompted=[2])  # the prompts of frames 1 and 3 are of objects 2 and 3 alone
    for t in (2, 4, 5, 6):
        if t == 4:
            add(3, K=4, prompted=[3])
        add(t, K=3 if t < 3 else 4)
    memory.remove([0, 2])
    assert memory.permanent == 2
    assert memory.keys[:, 0, 0, 0].tolist() == [0, 3, 5 + 1, 4, 5]  # frame 6 took the place of frame 2
    left = memory.masks[:, 0, 0]
    torch.testing.assert_close(left, torch.tensor([[0.1, 0], [3.1, 3.3], [6.1, 6.3], [4.1, 4.3], [5.1, 5.3]]))
    assert memory.known.tolist() == [[True, False], *[[True, True]] * 4]
    if values:
        torch.testing.assert_close(memory.values, memory.masks[..., None].expand(-1, -1, -1, -1, 5))
    assert memory.masks.is_contiguous()  # read-outs take it as it lies
    add(7, K=2)
    assert memory.keys[:, 0, 0, 0].tolist() == [0, 3, 6, 7, 5]


def test_a_prompt_that_a_later_one_replaced_leaves_with_the_other_objects_of_its_frame():
    memory, row = ReferenceMemory(references=0), torch.zeros(2, 2, 1)
    for t, prompted in enumerate([[0, 1], [0]]):
        memory.forget([0])
        memory.add(row + t, row.expand(2, 2, 2), None, prompted)
    memory.remove([1])
    assert (memory.keys[:, 0, 0, 0].tolist(), memory.known.tolist()) == ([1], [[True]])


def corrected(memory, t, k):
    """Frame t corrects object k of 3."""
    memory.forget([k])
    row = torch.full((1, 1, 1), float(t))
    memory.add(row, row.expand(1, 1, 3), None, prompted=[k])


@pytest.mark.parametrize("corrections", [0, 4])
def test_of_two_hundred_corrections_the_oldest_go_first_and_the_first_frame_stays(corrections):
    memory = ReferenceMemory(references=2, corrections=corrections)
    memory.add(torch.zeros(1, 1, 1), torch.zeros(1, 1, 3), None, prompted=[0, 1, 2])
    for t in range(1, 201):
        memory.add(torch.full((1, 1, 1), 1000.0 + t), torch.zeros(1, 1, 3), None)
        corrected(memory, t, t % 2)  # of object 2 there is the first frame alone
        assert memory.permanent <= 1 + 3 + corrections
    frames = memory.keys.flatten().tolist()
    assert frames[: memory.permanent] == [0, *range(199 - corrections, 201)]
    assert sorted(frames[memory.permanent :]) == [1199, 1200]
    assert memory.known[0].tolist() == [False, False, True]
    assert memory.known[memory.permanent - 2 : memory.permanent, :2].tolist() == [[False, True], [True, True]]


def test_a_reference_that_no_object_knows_is_dropped_at_once():
    memory = ReferenceMemory(references=2, corrections=10)
    for t in range(5):
        memory.forget([0])
        memory.add(torch.full((1, 1, 1), float(t)), torch.zeros(1, 1, 1), None, prompted=[0])
    assert memory.keys.flatten().tolist() == [0, 4]


def test_the_only_prompts_of_many_objects_all_stay():
    memory = ReferenceMemory(references=0, corrections=0)
    for k in range(30):
        memory.add(torch.full((1, 1, 1), float(k)), torch.zeros(1, 1, k + 1), None, prompted=[k])
    assert memory.permanent == 30


def remember(memory, K, prompted=()):
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    memory.add(key, torch.rand(h, w, K) / K, torch.randn(h, w, K, Dv), prompted)


@pytest.mark.parametrize("late", [False, True])
def test_each_object_is_the_dense_product_over_the_references_that_know_it(late):
    torch.manual_seed(0)
    memory = ReferenceMemory(references=3)
    for t in range(6):
        remember(memory, 1 if late and t < 3 else 3, prompted=[0] if t in (0, 3) else [])
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    found = read_memory(memory, key, Readout(top_k=4, radius=3), tau=0.1)
    assert [objects for objects, _ in found.parts] == ([[1, 2], [0]] if late else [[0, 1, 2]])
    read = []
    for k in range(3):
        knows = memory.known[:, k].nonzero()[:, 0]
        best = top_k_affinity(key, memory.keys[knows], int((knows < 2).sum()), 4, 0.1, 3, None)
        A = torch.zeros(h * w, len(knows) * h * w).scatter_add(1, best.index, best.weight)
        V_q = (A @ memory.values[knows][..., k, :].reshape(-1, Dv)).view(h, w, Dv).permute(2, 0, 1)
        Ybar = (A @ memory.masks[knows][..., k].flatten()).view(h, w)
        read.append(Ybar)
        permanent = knows[knows < 2]
        best = top_k_affinity(key, memory.keys[permanent], len(permanent), 4, 0.1, 3, None)
        A = torch.zeros(h * w, len(permanent) * h * w).scatter_add(1, best.index, best.weight)
        alone = (A @ memory.masks[permanent][..., k].flatten()).view(h, w)
        torch.testing.assert_close(found.from_permanent()[k], alone)
        for window in (Window(0, 0, h, w), Window(2, 3, 4, 5)):
            torch.testing.assert_close(found.values(k, window), window.cut(V_q, h))
    if not late:
        torch.testing.assert_close(found.coarse(), torch.stack(read))
        return
    # Background is what neither affinity takes for an object of its own; all of it together is one.
    nothing = (1 - read[0]) * (1 - read[1] - read[2])
    torch.testing.assert_close(found.coarse(), torch.stack(read) / (nothing + sum(read)))


def test_keys_at_half_the_size_follow_their_frames():
    torch.manual_seed(0)
    memory, readout = ReferenceMemory(references=3, halve=True), Readout(top_k=4, radius=3, coarse_to_fine=2)
    key = F.normalize(torch.randn(h, w, D), dim=-1)

    def same_as_halved_anew():
        for rows, (_, best) in zip([rows for rows, _ in memory.groups()], found().parts, strict=True):
            alone = readout.search(key, memory.keys[rows], int((rows < memory.permanent).sum()), 0.1)
            torch.testing.assert_close(best.weight, alone.weight)
            assert torch.equal(best.index, rows[alone.index // (h * w)] * (h * w) + alone.index % (h * w))

    def found():
        return read_memory(memory, key, readout, tau=0.1)

    for t in range(6):
        remember(memory, 1 if t < 3 else 3, prompted=[0] if t == 0 else [1, 2] if t == 3 else [])
        same_as_halved_anew()
    memory.remove([0])
    same_as_halved_anew()


@pytest.mark.parametrize("late", [False, True])
def test_only_cells_near_where_the_objects_were_seen_are_read(late):
    torch.manual_seed(0)
    memory = ReferenceMemory(references=3)
    for t in range(5):
        masks = torch.full((h, w, 2), 0.01)
        masks[3, t, 0] = 0.9  # one object moves to column 4, the other stays
        masks[6, 8, 1] = 0.8
        K = 1 if late and t < 3 else 2
        prompted = [0] if t == 0 else [1] if late and t == 3 else []
        memory.add(F.normalize(torch.randn(h, w, D), dim=-1), masks[..., :K], None, prompted)
    key, readout = F.normalize(torch.randn(h, w, D), dim=-1), Readout(top_k=4, radius=3)
    everywhere, near = (read_memory(memory, key, readout, 0.1, margin=margin) for margin in (None, 1))
    read = torch.zeros(h, w, dtype=torch.bool)
    read[2:5, 3:6] = read[5:, 7:] = True
    for all_of_it, ours in zip((everywhere.coarse(), everywhere.from_permanent()),
                               (near.coarse(), near.from_permanent()), strict=True):  # fmt: skip
        torch.testing.assert_close(ours, all_of_it * read)
    masks[3, 4, 0] = 0.4  # now hardly seen
    memory.add(key, masks, None)
    lost = read_memory(memory, key, readout, 0.1, margin=1).coarse()
    torch.testing.assert_close(lost, read_memory(memory, key, readout, 0.1).coarse())


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("repeat_first", [True, False])
def test_the_first_frame_fills_the_memory_as_if_it_were_repeated(frames, repeat_first):
    torch.manual_seed(0)
    memory, filled = ReferenceMemory(references=4), ReferenceMemory(references=4)
    for t in range(frames):
        key, masks = F.normalize(torch.randn(h, w, D), dim=-1), torch.rand(h, w, 2)
        memory.add(key, masks, None, prompted=[0] if t == 0 else [])
        filled.add(key, masks, None, prompted=[0] if t == 0 else [])
        for _ in range(4 if repeat_first and t == 0 else 0):  # before the video; later frames overwrite the copies
            filled.add(key, masks, None)
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    found = read_memory(memory, key, Readout(top_k=5, radius=3), 0.1, repeat_first).coarse()
    torch.testing.assert_close(found, read_memory(filled, key, Readout(top_k=5, radius=3), 0.1).coarse())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("coarse_to_fine", [None, 3])
def test_a_frame_is_read_without_a_wait_for_the_device(late, coarse_to_fine):
    # Tensors of the meta device have no values: whatever asks for one, as a wait for a GPU does, raises.
    def empty(*shape):
        return torch.empty(*shape, device="meta")

    memory = ReferenceMemory(references=3, halve=coarse_to_fine is not None)
    readout = Readout(top_k=4, radius=3, coarse_to_fine=coarse_to_fine)
    for t in range(6):
        K = 1 if late and t < 3 else 3
        memory.add(empty(h, w, D), empty(h, w, K), empty(h, w, K, Dv), prompted=[0] if t in (0, 3) else [])
    with mock.patch.object(torch, "autocast", return_value=nullcontext()):  # there is none for meta
        found = read_memory(memory, empty(h, w, D), readout, tau=0.1, repeat_first=True)
    assert found.coarse().shape == found.from_permanent().shape == (3, h, w)
    assert found.values(2, Window(2, 3, 4, 5)).shape == (Dv, 4, 5)


@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
def test_a_memory_goes_on_where_keys_are_compared_in_another_type(saved, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(coarse_to_fine, "multiplies_bf16", lambda device: saved == torch.bfloat16)
    one, other = ReferenceMemory(references=3, halve=True), ReferenceMemory(references=3, halve=True)
    for t in range(3):
        remember(one, 1, prompted=[0] if t == 0 else [])
    state = one.state()
    assert state["keys"].dtype == state["halved"].dtype == saved
    monkeypatch.setattr(coarse_to_fine, "multiplies_bf16", lambda device: saved != torch.bfloat16)
    other.restore(state, torch.device("cpu"))
    remember(other, 1)
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    found = read_memory(other, key, Readout(top_k=4, radius=3, coarse_to_fine=99), tau=0.1).coarse()
    expected = read_memory(other, key, Readout(top_k=4, radius=3), tau=0.1).coarse()
    assert (found - expected).abs().mean() < 0.01  # of nearly equal cells, bf16 may choose another
