"""Checks and times everything on one NVIDIA GPU, in under ten minutes: `make gpu-check`.

Each part compares what a GPU computes with the same on the CPU, or takes times. What is wanted has a gate, and the
check fails when one is missed. The gates of speed hold on a GPU of the H100 class. The results go to
`docs/performance/gpu_check.json` and `gpu_check.md` (with `--out`, elsewhere).

`--device cpu --quick` tries the check itself where there is no GPU: small sizes, no gates of speed.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.environments import TorchElasticEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import DDPStrategy
from segmenting import bars, video
from torch import Tensor

from vos_umec import PseudoMaskRefresh, SyntheticDataModule, UMECModule, VideoSegmenter
from vos_umec.clustering import SpaceTimeClusterer
from vos_umec.inference import load_segmenter
from vos_umec.matching import top_k_affinity
from vos_umec.models import build_network

READOUT_MS, FPS, STEP_S, PEAK_GIB = 5.0, 60.0, 0.25, 20.0
"""The gates of speed: read-out and whole model at 480p, a training step of 12 clips and its memory."""


@dataclass
class Row:
    """One figure: what it is of, its value, and what is wanted of it."""

    part: str
    what: str
    value: str
    wanted: str = ""
    holds: bool = True


@dataclass
class Report:
    """The rows so far, printed and saved as they come."""

    out: Path
    machine: str
    rows: list[Row] = field(default_factory=list)
    part: str = ""

    def add(self, what: str, value: str, wanted: str = "", holds: bool = True) -> None:
        """Add a figure; `wanted` names its gate and `holds` whether it is met."""
        self.rows.append(Row(self.part, what, value, wanted, holds))
        print(
            f"{'ok    ' if holds else 'MISSED'} {what}: {value}{f' (wanted: {wanted})' if wanted else ''}",
            flush=True,
        )
        self.save()

    def save(self) -> None:
        """Write both files."""
        state = {"machine": self.machine, "rows": [asdict(row) for row in self.rows]}
        (self.out / "gpu_check.json").write_text(json.dumps(state, indent=1) + "\n")
        lines = [f"{self.machine}.", "", "| part | figure | value | wanted | |", "|---|---|---|---|---|"]
        for row in self.rows:
            verdict = "" if not row.wanted else "met" if row.holds else "**missed**"
            lines.append(f"| {row.part} | {row.what} | {row.value} | {row.wanted} | {verdict} |")
        (self.out / "gpu_check.md").write_text("\n".join(lines) + "\n")


class Check:
    """The parts, in the order in which they run. Each is a method that adds rows to the report."""

    PARTS = ("equality", "clustering", "training", "processes", "inference_speed", "training_speed")

    def __init__(self, device: torch.device, quick: bool, report: Report) -> None:
        self.device, self.quick, self.report = device, quick, report
        self.cuda = device.type == "cuda"
        self.size = (96, 160) if quick else (480, 854)
        self.folder = Path(tempfile.mkdtemp(prefix="vos_umec_gpu_check_"))

    def equality(self) -> None:
        """Keys, read-out and labels as on the CPU."""
        torch.manual_seed(0)
        here, there = build_network("compact").eval(), build_network("compact").eval()
        there.load_state_dict(here.state_dict())
        there.to(self.device)
        x = torch.rand(1, 3, 96, 128)
        with torch.no_grad():
            far = (here.encoder(x).key - there.encoder(x.to(self.device)).key.cpu()).abs().max().item()
        self.report.add("largest difference of a key, fp32", f"{far:.1e}", "under 2e-3", far < 2e-3)

        generator = torch.Generator().manual_seed(0)
        keys = F.normalize(torch.randn(5, 20, 30, 32, generator=generator), dim=-1)
        found = [top_k_affinity(k[0], k[1:], 1, 10, 0.05, 12.0, None) for k in (keys, keys.to(self.device))]
        rows = zip(*(each.index.tolist() for each in found), strict=True)
        same = sum(len(set(a) & set(b)) for a, b in rows) / found[0].index.numel()
        self.report.add("cells of the read-out that are the same", f"{same:.2%}", "over 99.9 %", same > 0.999)

        size = self.size if self.quick else (240, 428)
        frames, mask = video(6, size), bars(size, objects=2)
        labels = segment(load_segmenter(short_side=None, bf16=False), frames, mask)
        for name, changes, least in (
            ("fp32", {"bf16": False, "crop_margin": 4}, 0.995),
            ("bf16", {"bf16": True, "crop_margin": 4}, 0.97),
            ("the default of the device", {}, 0.95),
        ):
            segmenter = load_segmenter(device=self.device, short_side=None, **changes)
            equal = float((segment(segmenter, frames, mask) == labels).mean())
            self.report.add(
                f"pixels labelled as on the CPU, {name}", f"{equal:.2%}", f"over {least:.1%}", equal > least
            )

    def clustering(self) -> None:
        """Segments of one video on the device, against those on the CPU."""
        generator = torch.Generator().manual_seed(0)
        keys = torch.randn(8, 16, 12, 20, generator=generator)  # (T, D, h, w)
        keys[:, 0, :6] += 4
        keys[:, 1, :, :10] += 4
        keys = F.normalize(keys, dim=1)
        here, there = cluster(keys), cluster(keys.to(self.device))
        seconds = self.timed(lambda: cluster(keys.to(self.device)))
        agree = float((here == there).mean())
        self.report.add("cells in the same segment as on the CPU", f"{agree:.1%}", "over 95 %", agree > 0.95)
        self.report.add("clustering of one small video", f"{1e3 * seconds:.0f} ms")

    def training(self) -> None:
        """Fit with refreshes, resume, test and predict in bf16; fit in fp16."""
        root = self.folder / "training"
        module, trainer, data = self.small_module(), self.trainer(root, epochs=3), self.small_data(root)
        trainer.fit(module, data)
        loss, scores = (float(trainer.callback_metrics[name]) for name in ("train/loss", "val/J&F"))
        done = np.isfinite(loss) and data.store.generation == 2
        self.report.add(
            "fit, 3 epochs",
            f"loss {loss:.3f}, J&F {scores:.3f}, generation {data.store.generation}",
            "2 refreshes, a finite loss",
            bool(done),
        )
        checkpoint = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        resumed, trainer, data = self.small_module(), self.trainer(root, epochs=4), self.small_data(root)
        trainer.fit(resumed, data, ckpt_path=checkpoint)
        trainer.test(resumed, data, verbose=False)
        trainer.predict(resumed, data, return_predictions=False)
        self.report.add(
            "resume, test, predict",
            f"epoch {trainer.current_epoch}, generation {data.store.generation}",
            "epoch 4, generation 3",
            trainer.current_epoch == 4 and data.store.generation == 3,
        )
        if self.cuda:
            root = self.folder / "fp16"
            trainer = self.trainer(root, epochs=2, precision="16-mixed")
            trainer.fit(self.small_module(), self.small_data(root))
            loss = float(trainer.callback_metrics["train/loss"])
            self.report.add("fit in fp16", f"loss {loss:.3f}", "a finite loss", bool(np.isfinite(loss)))

    def processes(self) -> None:
        """DDP of one process (NCCL on CUDA), and of two by gloo that share the device."""
        root = self.folder / "one"
        trainer = self.trainer(root, epochs=2, strategy="ddp", sync_batchnorm=self.cuda)
        trainer.fit(self.small_module(), self.small_data(root))
        backend = dist.get_backend()
        self.report.add(
            f"DDP of one process, {backend}",
            f"epoch {trainer.current_epoch}",
            "epoch 2",
            trainer.current_epoch == 2,
        )
        dist.destroy_process_group()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
        command += ["--device", self.device.type, "--rank-of-two", str(self.folder / "two")]
        two = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        said = {line.split(maxsplit=2)[2] for line in two.stdout.splitlines() if line.startswith("RANK")}
        value = said.pop() if len(said) == 1 else f"{sorted(said)} {two.stderr[-300:]}"
        self.report.add("DDP of two processes, gloo", value, "the same weights", two.returncode == 0 and not said)

    def rank_of_two(self, root: Path) -> None:
        """What each of two processes does."""
        strategy = DDPStrategy(
            cluster_environment=_OneDevice(), process_group_backend="gloo", timeout=timedelta(minutes=3)
        )
        trainer = self.trainer(root, epochs=2, strategy=strategy, num_nodes=2)
        module, data = self.small_module(), self.small_data(root)
        trainer.fit(module, data)
        total = sum(float(p.detach().double().sum()) for p in module.parameters())
        print(f"RANK {trainer.global_rank} generation {data.store.generation}, weights {total:.6f}", flush=True)

    def inference_speed(self) -> None:
        """The read-out alone, and frames a second of whole models at 480p."""
        N, h, w, D = (4, 12, 20, 16) if self.quick else (21, 60, 107, 128)
        keys = F.normalize(torch.randn(N, h, w, D, device=self.device), dim=-1)
        times = [self.timed(lambda: top_k_affinity(keys[0], keys[1:], 1, 10, 0.05, 12.0, None)) for _ in range(8)]
        ms = 1e3 * statistics.median(times[2:])
        self.report.add(
            "read-out, 20 references", f"{ms:.1f} ms", *self.gate(f"under {READOUT_MS:g} ms", ms < READOUT_MS)
        )
        resnet = build_network("tiny" if self.quick else "resnet18").eval().to(self.device)
        small: dict[str, Any] = {"short_side": None} if self.quick else {}
        umec, crw = (VideoSegmenter.from_protocol(resnet, protocol) for protocol in ("umec", "crw"))
        for name, segmenter, objects, gated in (
            ("whole model (ResNet-18, protocol umec), 1 object", umec, 1, True),
            ("whole model (ResNet-18, protocol umec), 3 objects", umec, 3, False),
            ("label propagation (ResNet-18, protocol crw)", crw, 1, False),
            ("the shipped model, 1 object", load_segmenter(device=self.device, **small), 1, False),
        ):
            fps, launches, waits, peak = self.frames_a_second(segmenter, objects)
            gate = self.gate(f"over {FPS:g} FPS", fps > FPS) if gated else ()
            self.report.add(
                name, f"{fps:.1f} FPS, {launches} launches and {waits} waits a frame, {peak:.2f} GiB", *gate
            )

    def frames_a_second(self, segmenter: VideoSegmenter, objects: int) -> tuple[float, int, int, float]:
        """FPS with a full memory, launches and waits of one frame, peak memory in GiB."""
        frames, mask = video(5 if self.quick else 46, self.size), bars(self.size, objects)
        segmenter.reset()
        self.reset_peak()
        times = [self.timed(lambda: segmenter.step(frames[0], mask))]
        times += [self.timed(partial(segmenter.step, frame)) for frame in frames[1:]]
        with torch.profiler.profile() as profile:
            segmenter.step(frames[-1])
            self.synchronize()
        launches = sum(event.count for event in profile.key_averages() if "LaunchKernel" in event.key)
        waits = sum(event.count for event in profile.key_averages() if "Synchronize" in event.key)
        return 1 / statistics.median(times[-20:]), launches, waits, self.peak()

    def training_speed(self) -> None:
        """A training step at the paper's setting: ResNet-18, 12 clips of 5 frames, 256 x 256."""
        B, crop = (2, 64) if self.quick else (12, 256)
        root, clock = self.folder / "speed", _StepClock(self.synchronize)
        videos = (4 if self.quick else 8) * B
        data = self.small_data(root, crop=crop, batch_size=B, videos=videos)
        module = self.small_module("tiny" if self.quick else "resnet18")
        trainer = self.trainer(root, epochs=2, more=[clock], limit_val_batches=0)
        self.reset_peak()
        trainer.fit(module, data)
        half = len(clock.ends) // 2
        steps = np.diff(clock.ends)
        correspondence, whole = (float(np.median(each)) for each in (steps[1 : half - 1], steps[half + 1 :]))
        peak = self.peak()
        self.report.add(f"step of {B} clips, correspondence alone", f"{correspondence:.3f} s")
        self.report.add(
            f"step of {B} clips, with L_seg", f"{whole:.3f} s", *self.gate(f"under {STEP_S:g} s", whole < STEP_S)
        )
        self.report.add("refresh", f"{steps[half - 1]:.1f} s for {videos} videos of 12 frames")
        self.report.add(
            "peak memory of training", f"{peak:.1f} GiB", *self.gate(f"under {PEAK_GIB:g} GiB", peak < PEAK_GIB)
        )

    def small_module(self, network: str = "tiny") -> UMECModule:
        """A module whose decoder is scored with one round."""
        return UMECModule(
            network=network,
            objectives=[{"class_path": "vos_umec.DenseContrastObjective"}],
            evaluation={"segmenter": {"rounds": 1, "references": 3}},
        )

    def small_data(self, root: Path, crop: int = 64, batch_size: int = 4, videos: int = 8) -> SyntheticDataModule:
        """Synthetic videos with a store of pseudo masks below `root`."""
        return SyntheticDataModule(
            str(self.folder / f"videos{crop}"), train_videos=videos, val_videos=2, frames=12,
            size=(crop + 16, crop + 32), short_side=crop + 8, crop=crop, clip_length=5, gap=1,
            batch_size=batch_size, num_workers=2, store=str(root / "store"),
        )  # fmt: skip

    def trainer(self, root: Path, epochs: int, more: list[Callback] | None = None, **options: Any) -> Trainer:
        """A quiet Trainer that refreshes the pseudo masks after each epoch."""
        refresh = PseudoMaskRefresh(
            every_n_epochs=1, warmup_epochs=1, frames_per_video=8, short_side=64, pictures=1
        )
        defaults: dict[str, Any] = {
            "accelerator": "gpu" if self.cuda else "cpu", "devices": 1,
            "precision": "bf16-mixed" if self.cuda else "32-true",
            "gradient_clip_val": 1.0, "logger": False, "enable_progress_bar": False, "num_sanity_val_steps": 0,
            "enable_model_summary": False, "check_val_every_n_epoch": epochs,
        }  # fmt: skip
        return Trainer(
            default_root_dir=root, max_epochs=epochs, callbacks=[refresh, *(more or [])], **defaults | options
        )

    def gate(self, wanted: str, holds: bool) -> tuple[str, bool] | tuple[()]:
        """A gate of speed, which a quick check on a CPU has not."""
        return (wanted, bool(holds)) if self.cuda and not self.quick else ()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds of a piece of work, until the device has done it."""
        self.synchronize()
        start = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - start

    def reset_peak(self) -> None:
        """Measure the peak of the memory from here on."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float:
        """The peak since then in GiB; 0 on the CPU."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.cuda else 0.0


class _StepClock(Callback):
    """When each training step ended."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize, self.ends = synchronize, list[float]()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.synchronize()
        self.ends.append(time.perf_counter())


class _OneDevice(TorchElasticEnvironment):
    """Two processes that share one device: each takes itself for the first of its node."""

    def local_rank(self) -> int:
        return 0

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        pass


def segment(
    segmenter: VideoSegmenter, frames: list[NDArray[np.uint8]], mask: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Labels of all frames (T, H, W)."""
    return np.stack([segmenter.step(frame, None if t else mask) for t, frame in enumerate(frames)])


def cluster(keys: Tensor) -> NDArray[np.uint8]:
    """Segments (T, H, W) of keys (T, D, h, w), numbered by size."""
    size = (keys.shape[-2], keys.shape[-1])
    return SpaceTimeClusterer(clusters=4, position_weight=0.0)(keys, size, seed=0).segments


def machine(device: torch.device) -> str:
    """What runs the check."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"


def main() -> None:
    """Run the parts; exit with 1 when a gate is missed or a part fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes, no gates of speed")
    parser.add_argument("--only", nargs="+", choices=Check.PARTS, default=Check.PARTS, help="parts to run")
    parser.add_argument("--out", type=Path, default=Path("docs/performance"), help="folder of the results")
    parser.add_argument("--rank-of-two", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; try the check itself with --device cpu --quick")
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = Report(arguments.out, machine(device))
    check = Check(device, arguments.quick, report)
    if arguments.rank_of_two:
        check.rank_of_two(arguments.rank_of_two)
        return
    for report.part in arguments.only:
        start = time.monotonic()
        try:
            getattr(check, report.part)()
        except Exception as error:  # the other parts say more than a check that stops here
            traceback.print_exc()
            report.add("raised", f"{type(error).__name__}: {str(error)[:200]}", "no error", False)
        print(f"-- {report.part}: {time.monotonic() - start:.0f} s", flush=True)
    missed = [f"{row.part}: {row.what}" for row in report.rows if not row.holds]
    sys.exit(f"missed: {'; '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
