import pytest
import torch
import torch.nn.functional as F
from objective_toys import PooledEncoder, slow_info_nce

from vos_umec.data.geometry import GeometricTransform
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.cells import random_cells
from vos_umec.objectives.equivariance import EquivarianceObjective


def slow_equivariance(E, frames, indices, w_short, w_long, tau, samples, radius, long_gap, symmetric):
    """Eq. 7 to 10 cell by cell, with the same draws in the same order."""
    B, T, _, H, W = frames.shape
    dice = torch.rand(B, T, T)
    moved, far, has_far, next_to = [], [], [], []
    for b in range(B):
        times = indices[b].tolist()
        pairs = [(i, j) for i in range(T) for j in range(T) if abs(times[i] - times[j]) >= long_gap]
        has_far.append(bool(pairs))
        i, j = max(pairs or [(i, j) for i in range(T) for j in range(T)], key=lambda p: float(dice[b][p]))
        moved.append(i)
        far.append(j)
        later = [k for k in range(T) if times[k] > times[i]]
        earlier = [k for k in range(T) if k != i and times[k] <= times[i]]
        next_to.append(min(later, key=times.__getitem__) if later else max(earlier, key=times.__getitem__))
    phi = GeometricTransform.sample(B, (H, W))
    alone = [GeometricTransform(phi.matrix[b : b + 1], (H, W), (H, W)) for b in range(B)]

    def warped(b, t):
        return F.normalize(alone[b].apply_features(E(frames[b, t][None]).key)[0], dim=0)

    seen = [E(alone[b].apply_image(frames[b, moved[b]][None])).key[0] for b in range(B)]
    h, w = seen[0].shape[1:]

    def stopped(v):
        return v if symmetric else v.detach()

    def match(x, y, cells, valid):
        loss = slow_info_nce(x, y, cells, valid, w, tau, radius)[0]
        return (loss + slow_info_nce(y, x, cells, valid, w, tau, radius)[0]) / 2 if symmetric else loss

    cells, valid = random_cells(torch.ones(B, h, w, dtype=torch.bool), samples)
    x = torch.stack([torch.stack([seen[b][:, c // w, c % w] for c in cells[b].tolist()]) for b in range(B)])
    y = torch.stack(
        [torch.stack([warped(b, next_to[b])[:, c // w, c % w] for c in cells[b].tolist()]) for b in range(B)]
    )
    short = match(x, stopped(y), cells, valid)

    kept = torch.zeros(B, h, w, dtype=torch.bool)
    for b in range(B):
        for i in range(h):
            for j in range(w):  # the centre of the cell, carried by Phi, must lie inside the output
                u, v, _ = phi.matrix[b] @ torch.tensor(
                    [j * W / w + (W / w - 1) / 2, i * H / h + (H / h - 1) / 2, 1]
                )
                kept[b, i, j] = has_far[b] and -0.5 <= u <= W - 0.5 and -0.5 <= v <= H - 0.5
    cells, valid = random_cells(kept, samples)
    x, gathered = [], []
    for b in range(B):
        keys = E(frames[b, far[b]][None]).key[0]
        values = stopped(warped(b, moved[b]))
        for c in cells[b].tolist():
            q = keys[:, c // w, c % w]
            weights = torch.stack([torch.dot(seen[b][:, i, j], q) / tau for i in range(h) for j in range(w)]).exp()
            weights = weights / weights.sum()
            r = sum(weights[i * w + j] * values[:, i, j] for i in range(h) for j in range(w))
            x.append(q)
            gathered.append(r / r.norm())
    x, gathered = (torch.stack(v).unflatten(0, cells.shape) for v in (x, gathered))
    return w_short * short + w_long * match(gathered, x, cells, valid)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("w_short", "w_long"), [(1.0, 0.0), (0.0, 1.0), (0.1, 1.0)])
def test_equals_the_equations_with_gradients(symmetric, w_short, w_long):
    E = PooledEncoder(dim=5)
    frames = torch.rand(3, 3, 3, 16, 20, dtype=torch.float64)
    indices = torch.tensor([[0, 3, 6], [9, 2, 5], [1, 2, 3]])  # the second is out of order, the last too short
    settings = {"tau": 0.3, "samples": 7, "radius": 1.5, "long_gap": 5, "symmetric": symmetric}
    objective = EquivarianceObjective(w_short, w_long, **settings)
    torch.manual_seed(11)
    fast = objective(EncodedClip(E, frames, indices))
    torch.manual_seed(11)
    slow = slow_equivariance(E, frames, indices, w_short, w_long, **settings)
    # The affinity is fp32 whatever its input.
    torch.testing.assert_close(fast["loss"], slow, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(fast["loss"].detach(), w_short * fast["short"] + w_long * fast["long"])
    assert float(fast["long_share"]) == pytest.approx(2 / 3)
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, atol=1e-5, rtol=1e-5)
