"""The evidence of a read-out against its definition, cell by cell."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from vos_umec.matching.evidence import match_evidence
from vos_umec.matching.readout import Readout
from vos_umec.matching.topk import top_k_affinity

TAU, K = 0.1, 4


def slowly(keys, query, masks, y, x, radius, permanent_radius):
    """(objects, 4) of one query cell; the first reference is the permanent one."""
    found = []
    for n, v, u in product(*map(range, keys.shape[:3])):
        if math.hypot(v - y, u - x) < (permanent_radius if n == 0 else radius):
            found.append((float(keys[n, v, u] @ query[y, x]), n, masks[n, v, u]))
    found.sort(key=lambda cell: -cell[0])
    first = [cell for cell in found if cell[1] == 0]
    weights = torch.softmax(torch.tensor([score for score, _, _ in found[:K]]) / TAU, dim=0)
    alone = torch.softmax(torch.tensor([score for score, _, _ in first[:K]]) / TAU, dim=0)
    vote = sum(weight * mask for weight, (_, _, mask) in zip(alone, first, strict=False))
    frame = [
        math.log(1 + (1 - found[0][0]) / TAU),
        math.log(1 + (1 - first[0][0]) / TAU),
        sum(float(weight) for weight, (_, n, _) in zip(weights, found, strict=False) if n == 0),
    ]
    return torch.tensor([[*frame, float(each)] for each in vote])


@pytest.mark.parametrize(("radius", "permanent_radius"), [(3.0, 4.0), (2.5, 9.0)])
def test_every_channel_is_what_it_is_defined_as(radius, permanent_radius):
    torch.manual_seed(0)
    keys = F.normalize(torch.randn(4, 5, 6, 8), dim=-1)  # three references and the query
    masks = torch.rand(3, 5, 6, 2)
    best = top_k_affinity(keys[3], keys[:3], 1, K, TAU, radius, permanent_radius)
    expected = torch.stack(
        [slowly(keys[:3], keys[3], masks, y, x, radius, permanent_radius) for y in range(5) for x in range(6)]
    )
    torch.testing.assert_close(match_evidence(best, masks, 1, TAU), expected, atol=1e-5, rtol=1e-4)

    clips = (
        keys[None, :3].permute(0, 1, 4, 2, 3), keys[None, 3].permute(0, 3, 1, 2),
        masks[None].permute(0, 1, 4, 2, 3), torch.rand(1, 3, 2, 1, 5, 6),
    )  # fmt: skip
    read = Readout(K, radius, permanent_radius).read_clips(*clips, TAU)
    torch.testing.assert_close(read.evidence[0].permute(2, 3, 0, 1).flatten(0, 1), expected, atol=1e-5, rtol=1e-4)

    all_cells = Readout(3 * 5 * 6, None, None).read_clips(*clips, TAU)  # the same, as the best of so many
    torch.testing.assert_close(Readout(None).read_clips(*clips, TAU).evidence, all_cells.evidence)


def test_without_a_permanent_reference_there_is_no_evidence():
    keys = F.normalize(torch.randn(2, 4, 4, 8), dim=-1)
    best = top_k_affinity(keys[1], keys[:1], 0, K, TAU, 3)
    with pytest.raises(ValueError, match="permanent"):
        match_evidence(best, torch.rand(1, 4, 4, 1), 0, TAU)
