import pytest
import torch
from pytorch_lightning import Trainer
from several import QuickDDP
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vos_umec import UMECModule


class Clips(Dataset):
    """Every other clip has pseudo masks: of two processes, one has them and the other has none."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        frames = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(index))
        segments = torch.full((3, 32, 32), 255, dtype=torch.uint8)
        clip = {"frames": frames, "frame_indices": 5 * torch.arange(3), "segments": segments, "generation": 0}
        if index % 2 == 0:
            segments[:], clip["generation"] = 0, 1
            segments[:, 4:20, 4:20] = 1
        return clip


OBJECTIVES = [{"class_path": f"vos_umec.{name}Objective"} for name in ("Equivariance", "DenseContrast")]


class Watched(UMECModule):
    """Fails where another part has moved than expected, or the processes' weights are no longer the same."""

    def __init__(self, moves: set[str], **options) -> None:
        super().__init__("tiny", learning_rate=1e-2, **options)
        self.moves = moves

    def train_dataloader(self):
        sampler = DistributedSampler(Clips(), num_replicas=2, rank=self.trainer.global_rank, shuffle=False)
        return DataLoader(Clips(), batch_size=2, sampler=sampler)

    def on_train_start(self):
        self.before = {name: p.clone() for name, p in self.network.named_parameters()}

    def check_moves(self):
        after = dict(self.network.named_parameters())
        moved = {name.split(".")[0] for name, p in self.before.items() if not torch.equal(p, after[name])}
        assert moved == self.moves

    def on_train_end(self):
        self.check_moves()
        for p in self.network.parameters():
            first, second = self.all_gather(p.detach())
            torch.testing.assert_close(first, second, rtol=0, atol=0)
        first, second = self.all_gather(torch.rand(9, device=self.device))
        assert not torch.equal(first, second), "both processes crop and warp alike"


class Unfit(Watched):
    """Batches whose only segment is the whole picture: no process has an object to learn from."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "segments": torch.zeros_like(batch["segments"])}

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        assert loss == 0
        return loss


class Alone(Watched):
    """Two batches without pseudo masks, then two with them."""

    def train_dataloader(self):
        clips = [Clips()[index] for index in (0, 2, 4, 6)]
        plain = [{name: clip[name] for name in ("frames", "frame_indices")} for clip in clips]
        return DataLoader(Steps([plain[:2], plain[2:], clips[:2], clips[2:]]), batch_size=None)

    def on_train_end(self):
        self.check_moves()


class Steps(Dataset):
    """Ready batches."""

    def __init__(self, batches) -> None:
        self.batches = [torch.utils.data.default_collate(batch) for batch in batches]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "options", "moves"),
    [
        (Watched, {"segmentation": {"max_objects": 1}, "freeze_encoder": True}, {"mask_encoder", "decoder"}),
        (Unfit, {"freeze_encoder": True}, {"mask_encoder", "decoder"}),  # they decay
        (
            Watched,
            {"segmentation": {"max_objects": 1, "rounds": 0}, "objectives": OBJECTIVES},
            {"encoder", "mask_encoder"},  # D takes no part
        ),
    ],
)
def test_two_processes_move_the_same_parts_alike(module, options, moves, tmp_path):
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=QuickDDP(), max_epochs=1,
        use_distributed_sampler=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module(moves, **options))


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [True, False])
def test_one_process_trains_by_ddp_too(freeze, tmp_path):
    """DDP wraps it like any other; the first two steps are without pseudo masks."""
    moves = {"encoder", "mask_encoder", "decoder"}
    module = Alone(moves, segmentation={"max_objects": 1}, freeze_encoder=freeze)
    trainer = Trainer(
        accelerator="cpu", devices=1, strategy=QuickDDP(), max_epochs=1,
        use_distributed_sampler=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module)
