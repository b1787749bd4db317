import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference.memory import ReferenceMemory


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 4))
def test_anchors_stay_and_the_ring_holds_the_last(anchor, references):
    memory = ReferenceMemory(references)
    for t, is_anchor in enumerate(anchor):
        row = torch.full((1, 1, 1), float(t))
        memory.add(row, row, row[..., None], is_anchor)
    kept = [t for t, a in enumerate(anchor) if a]
    ring = [t for t, a in enumerate(anchor) if not a]
    ring = ring[len(ring) - references :] if references < len(ring) else ring
    assert len(memory) == len(kept) + len(ring)
    if len(memory):
        frames = memory.keys.flatten().tolist()
        assert frames[: len(kept)] == kept
        assert sorted(frames[len(kept) :]) == ring
        assert memory.masks.flatten().tolist() == memory.values.flatten().tolist() == frames


def test_frames_from_before_an_object_do_not_know_it():
    memory = ReferenceMemory(references=3)
    memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 1), torch.ones(2, 2, 1, 5), anchor=True)
    memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 1), torch.ones(2, 2, 1, 5))
    memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 3), torch.ones(2, 2, 3, 5), anchor=True)
    assert memory.known.tolist() == [[True, False, False], [True, True, True], [True, False, False]]
    assert memory.masks[0, ..., 1:].sum() == 0
    assert memory.values.shape == (3, 2, 2, 3, 5)


def test_frames_are_written_in_place():
    memory, places = ReferenceMemory(references=3), set()
    for t in range(10):
        memory.add(torch.ones(2, 2, 4), torch.ones(2, 2, 1), torch.ones(2, 2, 1, 5), anchor=t == 0)
        places.add((memory.keys.data_ptr(), memory.masks.data_ptr(), memory.values.data_ptr()))
    assert len(places) == 1
