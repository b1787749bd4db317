"""Small encoders and clips whose right answer is known."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.models.encoder import Features
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip


class PooledEncoder(nn.Module):
    """Average pooling of the image, lifted to unit vectors of any width: exactly equivariant to flips, and to crops
    that fit the stride."""

    def __init__(self, stride: int = 4, dim: int = 16, dtype: torch.dtype = torch.float64, spread: float = 3.0):
        super().__init__()
        self.stride = stride
        generator = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(spread * torch.randn(dim, 3, generator=generator, dtype=dtype))
        self.bias = nn.Parameter(torch.rand(dim, generator=generator, dtype=dtype))

    def forward(self, x: Tensor) -> Features:
        pooled = F.avg_pool2d(x.to(self.weight.dtype), self.stride)
        lifted = torch.einsum("dc,nchw->ndhw", self.weight, pooled) + self.bias[:, None, None]
        key = F.normalize(torch.sin(lifted), dim=1)
        return Features(key=key, trunk=key, skips=())


class ConvEncoder(nn.Module):
    """A few convolutions at stride 4, small enough to learn something in seconds."""

    def __init__(self, dim: int = 32):
        super().__init__()
        self.stride = 4
        self.net = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, dim, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Features:
        key = F.normalize(self.net(x).float(), dim=1)
        return Features(key=key, trunk=key, skips=())


def still_clip(B: int, T: int, side: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Frames (B, T, 3, side, side) in which nothing moves."""
    return torch.rand(B, 1, 3, side, side, dtype=dtype).expand(B, T, 3, side, side).clone()


def moving_clip(B: int, T: int, side: int, step: int = 2) -> Tensor:
    """Smooth random textures (B, T, 3, side, side) that drift by up to `step` pixels a frame, under noise."""
    reach = step * T
    full = side + 2 * reach
    texture = F.interpolate(torch.randn(B, 3, full // 4, full // 4), (full, full), mode="bilinear")
    frames = torch.empty(B, T, 3, side, side)
    for b in range(B):
        dy, dx = torch.randint(-step, step + 1, (2,)).tolist()
        for t in range(T):
            y, x = reach + dy * t, reach + dx * t
            frames[b, t] = texture[b, :, y : y + side, x : x + side]
    return frames + 0.3 * torch.randn_like(frames)


def gradcheck_weights(objective: CorrespondenceObjective, E: nn.Module, frames: Tensor, **settings: float) -> bool:
    """Whether the loss's gradients by E's weights, in double precision, are those of finite differences."""
    names, weights = zip(*E.named_parameters(), strict=True)
    indices = torch.arange(frames.shape[1]).expand(frames.shape[:2])

    def loss(*values: Tensor) -> Tensor:
        torch.manual_seed(0)

        def encode(x: Tensor) -> Features:
            return torch.func.functional_call(E, dict(zip(names, values, strict=True)), (x,))

        return objective(EncodedClip(encode, frames, indices))["loss"]

    return torch.autograd.gradcheck(loss, weights, **settings)


def slow_info_nce(x, y, valid, tau):
    """The equation, pair by pair."""
    pairs = [(b, i) for b in range(valid.shape[0]) for i in range(valid.shape[1]) if valid[b, i]]
    total, right = 0.0, 0
    for own in pairs:
        scores = {other: torch.dot(x[own], y[other]) / tau for other in pairs}
        total = total - torch.log(scores[own].exp() / torch.stack([*scores.values()]).exp().sum())
        right += max(pairs, key=lambda other: float(scores[other].detach())) == own
    return total / max(len(pairs), 1), right / max(len(pairs), 1)


def slow_anchor_cross_entropy(students, teachers, anchors, tau):
    """Cell by cell: the label is the own clip's anchor that the teacher (B, F, D, h, w) finds most similar."""
    B, A = anchors.shape[:2]
    every = [(b, anchors[b, a]) for b in range(B) for a in range(A)]
    total, agree, count = 0.0, 0, 0
    for b, f, i, j in itertools.product(range(B), *map(range, (students.shape[1], *students.shape[3:]))):
        own = [k for k, (owner, _) in enumerate(every) if owner == b]
        label = max(own, key=lambda k: float(torch.dot(teachers[b, f, :, i, j], every[k][1]).detach()))
        scores = torch.stack([torch.dot(students[b, f, :, i, j], anchor) / tau for _, anchor in every])
        total = total - torch.log(torch.exp(scores[label]) / torch.exp(scores).sum())
        agree += int(scores.argmax()) == label
        count += 1
    return total / count, agree / count
