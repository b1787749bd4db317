import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vos_umec import UMECModule


class Clips(Dataset):
    """Every other clip has pseudo masks, so that of two processes one has them and the other has none."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        frames = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(index))
        segments = torch.full((3, 32, 32), 255, dtype=torch.uint8)
        clip = {"frames": frames, "frame_indices": torch.arange(3), "segments": segments, "generation": 0}
        if index % 2 == 0:
            segments[:], clip["generation"] = 0, 1
            segments[:, 4:20, 4:20] = 1
        return clip


class Watched(UMECModule):
    """Fails where E has moved, or the processes' weights are no longer the same."""

    def train_dataloader(self):
        sampler = DistributedSampler(Clips(), num_replicas=2, rank=self.trainer.global_rank, shuffle=False)
        return DataLoader(Clips(), batch_size=2, sampler=sampler)

    def on_train_start(self):
        self.before = [p.clone() for p in self.network.encoder.parameters()]

    def on_train_end(self):
        for old, new in zip(self.before, self.network.encoder.parameters(), strict=True):
            torch.testing.assert_close(new, old, rtol=0, atol=0)
        for p in self.parameters():
            first, second = self.all_gather(p.detach())
            torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.slow
def test_e_rests_on_every_process_where_one_has_pseudo_masks(tmp_path):
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_spawn", max_epochs=1, use_distributed_sampler=False,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Watched(network="tiny", joint=False, max_objects=1, learning_rate=1e-2))
