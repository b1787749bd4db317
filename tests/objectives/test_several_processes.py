"""Losses and gradients of several processes, as DDP averages them, are those of one process with all clips."""

from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from objective_toys import PooledEncoder
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vos_umec.models.factory import build_network
from vos_umec.objectives import colorization
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.colorization import ColorizationObjective
from vos_umec.objectives.cycle_consistency import CycleConsistencyObjective
from vos_umec.objectives.dense_contrast import DenseContrastObjective
from vos_umec.objectives.equivariance import EquivarianceObjective
from vos_umec.objectives.frame_similarity import FrameSimilarityObjective
from vos_umec.objectives.photometric import PhotometricObjective
from vos_umec.objectives.segmentation import segmentation_loss
from vos_umec.transforms.geometric import GeometricTransform

CLIPS = 4
COLORS = 0.02 * torch.randn(16, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.008, 0.064])


class Corresponding(nn.Module):
    """The loss of an objective on the clips of one process."""

    def __init__(self, encoder, objective):
        super().__init__()
        self.encoder, self.objective = encoder, objective
        self.frames = torch.rand(CLIPS, 3, 3, 32, 40, dtype=next(self.parameters()).dtype)
        # The fourth clip has no pair for the short term: processes then have different numbers of cells.
        self.indices = torch.tensor([[0, 3, 6], [9, 2, 5], [1, 2, 3], [0, 6, 12]])

    def forward(self, own: slice):
        return self.objective(EncodedClip(self.encoder, self.frames[own], self.indices[own]))["loss"]


class Segmenting(nn.Module):
    """L_seg of clips with 2, 0, 1 and 2 objects, whose pixels are known in part."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 1.0, -0.7], dtype=torch.float64))
        self.logits = torch.randn(CLIPS, 3, 6, 5, dtype=torch.float64)
        label = torch.randint(0, 3, (CLIPS, 6, 5))
        self.masks = torch.stack((label == 1, label == 2), dim=1).float()
        self.valid = torch.tensor([[True, True], [False, False], [True, False], [True, True]])
        self.known = torch.rand(CLIPS, 6, 5) > 0.3

    def forward(self, own: slice):
        logits = (self.logits * self.weight[:, None, None])[own]
        return segmentation_loss(logits, self.masks[own], self.valid[own], self.known[own], iou_weight=0.5)


def cases() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    tiny = build_network("tiny").encoder.eval()  # batch norms as in inference: those of CPUs are not synchronised
    return {
        "dense contrast": Corresponding(PooledEncoder(dim=5), DenseContrastObjective(anchors=3, cross_anchors=2)),
        "both terms, a network": Corresponding(tiny, EquivarianceObjective()),
        "short term": Corresponding(PooledEncoder(dim=5), EquivarianceObjective(1.0, 0.0, cells=3)),
        "long term": Corresponding(PooledEncoder(dim=5), EquivarianceObjective(0.0, 1.0, anchors=3)),
        "photometric": Corresponding(PooledEncoder(dim=5), PhotometricObjective(radius=2)),
        "colorization": Corresponding(PooledEncoder(dim=5), ColorizationObjective(samples=20)),
        "cycle consistency": Corresponding(PooledEncoder(dim=5), CycleConsistencyObjective(grid=2, dropout=0.0)),
        "frame similarity": Corresponding(
            PooledEncoder(dim=5), FrameSimilarityObjective(key_dim=5).double().eval()
        ),
        "segmentation": Segmenting(),
    }


@contextmanager
def draws_for_all(rank: int, world: int):
    """Draws, whose first dimension is the clips, are made for those of all processes; a process keeps its part."""
    rand, randint, sample = torch.rand, torch.randint, GeometricTransform.sample

    def own(drawn):
        return drawn[len(drawn) // world * rank :][: len(drawn) // world]

    def rand_own(*size, **options):
        B, *rest = size[0] if isinstance(size[0], torch.Size) else size
        return own(rand(world * B, *rest, **options))

    def randint_own(*bounds_and_size, **options):
        *bounds, size = bounds_and_size
        if not size:  # one draw for the batch
            return randint(*bounds, size, **options)
        return own(randint(*bounds, (world * size[0], *size[1:]), **options))

    def sample_own(B, size, **options):
        with mock.patch.multiple(torch, rand=rand, randint=randint):
            phi = sample(world * B, size, **options)
        return GeometricTransform(own(phi.matrix), phi.size, phi.output_size)

    with (
        mock.patch.multiple(torch, rand=rand_own, randint=randint_own),
        mock.patch.object(GeometricTransform, "sample", sample_own),
        # Each process clusters the colors of its own clips.
        mock.patch.object(colorization, "color_clusters", lambda colors, count: COLORS.to(colors)),
    ):
        yield


def results(rank: int = 0, world: int = 1) -> dict[str, list[torch.Tensor]]:
    """Of each case the loss, its mean over the processes, and the gradients."""
    found = {}
    for name, module in cases().items():
        module = DistributedDataParallel(module) if world > 1 else module
        torch.manual_seed(2)
        with draws_for_all(rank, world):
            loss = module(slice(CLIPS // world * rank, CLIPS // world * (rank + 1)))
        loss.backward()
        mean = loss.detach() / world
        if world > 1:
            dist.all_reduce(mean)
        found[name] = [mean, *(p.grad for p in module.parameters() if p.grad is not None)]
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for world in (2, 4):
        if rank < world:
            dist.init_process_group("gloo", f"file://{folder}/rendezvous_{world}", rank=rank, world_size=world)
            torch.save(results(rank, world), Path(folder, f"{world}_{rank}.pt"))
            dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(240)  # four processes import torch, on a machine that may be busy
def test_two_and_four_processes_learn_what_one_learns_from_all_clips(run_processes, tmp_path):
    run_processes(work, (str(tmp_path),), 4)
    expected = results()
    assert all(loss > 0.01 and all(g.abs().max() > 0 for g in grads) for loss, *grads in expected.values())
    for world in (2, 4):
        for rank in range(world):
            found = torch.load(tmp_path / f"{world}_{rank}.pt")
            for name, values in expected.items():
                where = f"{name}, {world} processes: "
                torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-6, msg=where.__add__)
