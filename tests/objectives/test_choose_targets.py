import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.objectives.segmentation import choose_targets


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), K=st.integers(1, 4), ids=st.integers(1, 8), unknown=st.floats(0, 1))
def test_every_object_is_a_fitting_segment_and_nothing_else(seed, K, ids, unknown):
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, ids, (3, 2, 6, 7)).astype(np.uint8)
    segments[rng.random(segments.shape) < unknown] = 255
    torch.manual_seed(seed)
    masks, valid = choose_targets(torch.from_numpy(segments), K, area=(0.1, 0.5))
    drawn = masks.shape[2]
    assert 1 <= drawn <= K
    assert masks.shape == (3, 2, drawn, 6, 7)
    for b in range(3):
        sizes = {i: (segments[b, 0] == i).sum() / 42 for i in range(255)}
        fitting = {i for i, share in sizes.items() if 0.1 <= share <= 0.5}
        assert int(valid[b].sum()) == min(drawn, len(fitting))
        chosen = set()
        for k in range(drawn):
            if not valid[b, k]:
                assert not masks[b, :, k].any()
                assert not valid[b, k:].any()
                continue
            inside = set(segments[b][masks[b, :, k].bool().numpy()].tolist())
            assert len(inside) == 1
            (i,) = inside
            assert i in fitting - chosen
            assert np.array_equal(segments[b] == i, masks[b, :, k].bool().numpy())
            chosen.add(i)


def test_numbers_and_segments_are_drawn_evenly():
    segments = torch.arange(4, dtype=torch.uint8).repeat_interleave(4).view(1, 1, 4, 4).expand(20, 1, 4, 4)
    torch.manual_seed(0)
    batches = [choose_targets(segments, 3) for _ in range(600)]
    assert all(valid.all() for _, valid in batches)
    numbers = torch.bincount(torch.tensor([valid.shape[1] for _, valid in batches]), minlength=4)
    assert numbers[0] == 0
    assert (numbers[1:] - 200).abs().max() < 50
    first = torch.cat([masks[:, 0, 0].flatten(1).argmax(dim=1) // 4 for masks, _ in batches])
    assert (torch.bincount(first, minlength=4) - 3000).abs().max() < 250


def test_a_seed_repeats_the_draw():
    segments = torch.randint(0, 5, (8, 3, 16, 16), dtype=torch.uint8)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(choose_targets(segments)[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_bounds_of_the_area_are_included_and_nothing_known_gives_nothing():
    half = torch.zeros(1, 1, 10, 10, dtype=torch.uint8)
    half[..., :5] = 1
    half[0, 0, 0, 0] = 2  # exactly 1 %; segment 1 now 49 %
    torch.manual_seed(0)
    assert max(int(choose_targets(half, 3)[1].sum()) for _ in range(20)) == 3
    _, valid = choose_targets(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))
    assert not valid.any()
