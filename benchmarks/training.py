"""The training step beside the networks' own forward and backward pass; where its time goes, and how it grows."""

import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import torch
from harness import Comparison, Curve, Parts, Result, compare, main, peak_memory, scale
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from replay import Replay, record
from settings import BF16, Setting, autocast, folder, gradients, paper
from torch import Tensor
from torch.utils.data import DataLoader

from vos_umec import UMECModule
from vos_umec.matching import Readout
from vos_umec.models import umec
from vos_umec.models.encoder import ResNetEncoder
from vos_umec.objectives import dense_contrast, equivariance, segmentation
from vos_umec.transforms.geometric import GeometricTransform

NETWORKS = "E, V and D alone"
readouts = sys.modules[Readout.__module__]  # `vos_umec.matching.readout` is the function of that name


def networks(module: UMECModule) -> list[tuple[Any, str]]:
    """E, V and D, as they are called in training."""
    net = module.network
    return [
        (net.encoder, "forward"),
        *((net.mask_encoder, name) for name in ("precompute", "embed")),
        *((net.decoder, name) for name in ("precompute", "precompute_object", "forward")),
    ]


PARTS = {
    "affinity and read-out": [
        (readouts, "affinity"),
        (readouts, "readout"),
        (readouts, "top_k_affinity"),
        (readouts, "gather_values"),
    ],
    "Phi on frames, features and masks": [
        (GeometricTransform, "apply_image"),
        (GeometricTransform, "apply_features"),
        (GeometricTransform, "apply_mask"),
    ],
    "contrastive losses": [
        (dense_contrast, "anchor_cross_entropy"),
        (dense_contrast, "info_nce"),
        (equivariance, "anchor_cross_entropy"),
        (equivariance, "info_nce"),
    ],
    "aggregation and L_seg": [
        (umec, "soft_aggregate"),
        (segmentation, "segmentation_loss"),
        (segmentation, "choose_targets"),
    ],
}


class Batches(LightningDataModule):
    """The same batch again and again, augmented where it lies."""

    def __init__(self, setting: Setting, count: int) -> None:
        super().__init__()
        self.augment, self.batches = setting.augment, [setting.batch()] * count

    def train_dataloader(self) -> Any:
        """No workers: waiting for data is another benchmark's."""
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As ClipDataModule does."""
        return self.augment(batch)


class InTurn(Callback):
    """Measures each step of a Trainer, and the networks alone after it."""

    def __init__(self, alone: Callable[[], None]) -> None:
        self.alone = alone
        self.seconds: dict[str, list[float]] = {"whole step": [], NETWORKS: []}

    def on_train_start(self, *_: Any) -> None:
        """The first step begins."""
        self._start = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """A step has ended: augmentation, losses, backward, clipping, optimiser and logging."""
        middle = perf_counter()
        self.alone()
        end = perf_counter()
        self.seconds["whole step"].append(middle - self._start)
        self.seconds[NETWORKS].append(end - middle)
        self._start = perf_counter()


def step(setting: Setting, rounds: int) -> list[Result]:
    """The whole step in a Trainer, in turn with the networks alone, and its parts."""
    module, batch = setting.module(), setting.batch()
    run = partial(gradients, module, setting, batch)
    run()
    replays = record({NETWORKS: networks(module), **PARTS}, run)
    alone = replays.pop(NETWORKS)
    module.zero_grad()

    def networks_alone() -> None:
        with autocast():
            alone()
        module.zero_grad()

    peaks = {}
    for name, work in (("whole step", run), (NETWORKS, networks_alone)):
        with peak_memory() as peak:
            work()
        peaks[name] = peak[0]
    watch = InTurn(networks_alone)
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            precision="bf16-mixed" if BF16 else "32-true",
            gradient_clip_val=1.0,
            logger=CSVLogger(root),
            log_every_n_steps=1,
            callbacks=[watch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(setting.module(), Batches(setting, rounds + 1))
    seconds = {
        name: values[1:] for name, values in watch.seconds.items()
    }  # the first step makes the optimiser's state
    share = statistics.median(a / s for s, a in zip(*seconds.values(), strict=True))
    comparison = Comparison(
        f"training step, {setting.name}, {'bf16' if BF16 else 'fp32'}",
        "whole step",
        seconds,
        peaks,
        checked="the networks alone do the calls recorded in a step, at its shapes, with its gradients",
        wanted="at least 0.85 of the throughput of the networks alone",
        notes=f"the whole step has {share:.2f} of the throughput of E, V and D alone",
    )
    return [comparison, step_parts(setting, module, replays, comparison)]


def step_parts(setting: Setting, module: UMECModule, replays: dict[str, Replay], whole: Comparison) -> Parts:
    """What each part takes when its calls of a step are done alone, forward and backward."""
    seconds = {"E, V and D": statistics.median(whole.seconds[NETWORKS])}
    for name, replay in replays.items():
        times = []
        for _ in range(3):
            start = perf_counter()
            with autocast():
                replay()
            times.append(perf_counter() - start)
        seconds[name] = statistics.median(times)
    for p in module.parameters():
        p.grad = torch.full_like(p, 1e-3)
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    times = []
    for _ in range(3):
        start = perf_counter()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        times.append(perf_counter() - start)
    seconds["clipping and AdamW"] = statistics.median(times)
    rest = statistics.median(whole.seconds["whole step"]) - sum(seconds.values())
    seconds["the rest: choosing cells and frames, sums of gradients, Lightning"] = max(rest, 0.0)
    return Parts(f"training step, {setting.name}", seconds)


def layouts() -> Comparison:
    """ResNet-18 to stage 3, forward and backward, by precision and layout."""
    x = torch.rand(4, 3, 256, 256)

    def way(bf16: bool, last: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        layout = torch.channels_last if last else torch.contiguous_format
        encoder = ResNetEncoder(blocks=(2, 2, 2), strides=(1, 2, 1)).to(memory_format=layout)
        frames = x.contiguous(memory_format=layout)

        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                features = encoder(frames)
            (features.key.sum() + features.trunk.float().mean()).backward()
            encoder.zero_grad()

        return work

    return compare(
        "ResNet-18 to stage 3, forward and backward of 4 images, 256 x 256",
        {
            "bf16, channels last": way(True, True),
            "bf16": way(True, False),
            "fp32, channels last": way(False, True),
            "fp32": way(False, False),
        },
        rounds=3,
    )


def checkpointed(lean: bool) -> dict[str, Any]:
    """The network of `paper`, which with `lean` computes activations again in the backward pass."""
    return {"preset": "resnet18", "gradient_checkpointing": lean}


def checkpointing() -> Comparison:
    """A step with and without gradient checkpointing."""
    setting = paper()
    batch = setting.batch()

    def way(module: UMECModule) -> list[Tensor]:
        torch.manual_seed(1)
        gradients(module, setting, batch)
        found = [p.grad.clone() for p in module.parameters() if p.grad is not None]
        module.zero_grad()
        return found

    def check(results: dict[str, list[Tensor]]) -> str:
        if not all(torch.equal(a, b) for a, b in zip(*results.values(), strict=True)):
            raise ValueError("gradient checkpointing changes the gradients")
        return "gradients equal to the last bit"

    ways = {
        "kept": partial(way, setting.module()),
        "gradient checkpointing": partial(way, setting.module(network=checkpointed(True))),
    }
    kept = {name: activations(setting, lean) / 2**20 for name, lean in zip(ways, (False, True), strict=True)}
    said = ", ".join(f"{name} {mib:.0f} MiB a clip" for name, mib in kept.items())
    return compare(
        f"gradient checkpointing, {setting.name}",
        ways,
        check,
        rounds=1,
        notes=f"held for the backward pass, which grows with the clips: {said}",
    )


def activations(setting: Setting, lean: bool) -> float:
    """Bytes that a step holds for its backward pass, by clip: the difference of 2 clips and 1."""
    held = []
    for B in (1, 2):
        module, seen = setting.module(network=checkpointed(lean)), {}
        torch.manual_seed(0)
        batch = setting.augment(setting.batch(B))

        def note(x: Tensor, seen: dict[int, Tensor] = seen) -> Tensor:
            seen[x.untyped_storage().data_ptr()] = x  # held here too, so that no place is taken twice
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), autocast():
            module.training_step(batch, 0)
        held.append(sum(x.untyped_storage().nbytes() for x in seen.values()))
    return float(held[1] - held[0])


def curves() -> list[Curve]:
    """A step of the tiny network against clips, frames and pixels."""
    setting = folder()
    module = setting.module()

    def work(own: Setting, batch: dict[str, Any]) -> None:
        gradients(module, own, batch)
        module.zero_grad()

    def of_clips(B: int) -> Callable[[], None]:
        return partial(work, setting, setting.batch(B))

    def of_frames(frames: int) -> Callable[[], None]:
        return partial(work, setting, setting.batch(4, frames))

    def of_pixels(pixels: int) -> Callable[[], None]:
        side = round(pixels**0.5)
        return partial(work, Setting("", 2, side, side, (0.5, 1.0)), setting.batch(2, decoded=side))

    title = "training step, tiny network"
    return [
        scale(f"{title}, 5 frames, 128 x 128", "clips", [2, 4, 8], of_clips, repeats=2),
        scale(
            f"{title}, 4 clips, 128 x 128",
            "frames of a clip",
            [3, 5, 9],
            of_frames,
            repeats=2,
            notes="below 1: L_seg takes one query frame whatever the length",
        ),
        scale(
            f"{title}, 2 clips of 5 frames",
            "pixels of a frame",
            [64**2, 96**2, 128**2, 192**2],
            of_pixels,
            repeats=2,
            notes="below 1 while fixed costs prevail; the affinity, quadratic in cells, counts above these sizes",
        ),
    ]


def run() -> list[Result]:
    """All of it."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")  # of logging outside of a Trainer
    torch.manual_seed(0)
    return [*step(folder(), rounds=5), *step(paper(), rounds=2), layouts(), checkpointing(), *curves()]


if __name__ == "__main__":
    main(run)
