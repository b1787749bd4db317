"""Make videos, train a small network on them, segment held-out ones, score and show it: all in minutes.

Example:
    vos-umec demo --out runs/demo
"""

import time
from pathlib import Path


def run(*, out: Path = Path("runs/demo"), seed: int = 0, epochs: int | None = None) -> None:
    """Run the demo.

    Args:
        out: Folder for everything.
        seed: Seed of the videos and of the training.
        epochs: Epochs of training; without it, as many as configs/quickstart.yaml has.
    """
    from pytorch_lightning import seed_everything

    from vos_umec.cli import segment
    from vos_umec.cli.shared import save_comparison
    from vos_umec.cli.trainer import run_cli
    from vos_umec.inference.protocols import adjust_settings
    from vos_umec.inference.segmenter import VideoSegmenter
    from vos_umec.metrics.results import print_table
    from vos_umec.progress import progress
    from vos_umec.training.checkpoint import load_module
    from vos_umec.training.evaluation import COPY, PROPAGATION, WHOLE, SequenceEvaluation, save_scores, score_table

    start = time.monotonic()
    cli = run_cli(
        [
            "fit",
            "--config=configs/quickstart.yaml",
            f"--seed_everything={seed}",
            f"--data.root={out / 'videos'}",
            f"--data.seed={seed}",
            f"--data.video_seed={seed}",
            f"--trainer.logger.save_dir={out}",
            "--trainer.limit_val_batches=0",  # scored below, beside the baselines
            *([] if epochs is None else [f"--trainer.max_epochs={epochs}"]),
        ]
    )
    minutes = (time.monotonic() - start) / 60
    print(f"made the videos and trained in {minutes:.1f} minutes; now segmenting the held-out ones")

    trained, shipped = cli.model, load_module()
    seed_everything(seed)
    untrained = trained.build_network()
    settings = trained.evaluation.segmenter or {}
    # As it was validated, it takes ten times as long.
    quick = {"short_side": 240, "readout": {"radius": 12, "permanent_radius": 30}}
    methods = {
        "untrained": (untrained, {**settings, "rounds": 0}),
        "shipped model": (shipped.network, adjust_settings(shipped.evaluation.segmenter or {}, quick, fast=True)),
        "trained": (trained.network, settings),
    }
    evaluations = {
        name: SequenceEvaluation(network, own, baselines=name == "trained")
        for name, (network, own) in methods.items()
    }
    for sequence in progress(cli.datamodule.sequences, "scoring"):
        for evaluation in evaluations.values():
            evaluation.update(sequence)
    columns = {
        COPY: ("trained", COPY),
        "untrained_label_propagation": ("untrained", PROPAGATION),
        "trained_label_propagation": ("trained", PROPAGATION),
        "trained_umec": ("trained", WHOLE),
        "shipped_model": ("shipped model", WHOLE),
    }
    rows = {name: evaluations[of].rows()[method] for name, (of, method) in columns.items()}
    curves = {name: evaluations[of].gathered_curves()[method] for name, (of, method) in columns.items()}
    print_table(score_table(rows))
    save_scores(rows, out / "scores", curves)

    shown = cli.datamodule.sequences[0]
    segmenters = {name: VideoSegmenter.from_protocol(network, **own) for name, (network, own) in methods.items()}
    save_comparison(out / "result.png", shown.source(), shown.prompts, segmenters, shown.annotations)
    checkpoint = Path(cli.trainer.log_dir or out) / "checkpoints" / "last.ckpt"
    segment.run(shown.path, mask=[str(shown.annotations[0])], out=out, checkpoint=checkpoint)
    print(f"look at {out / 'result.png'} and {out / 'overlay.mp4'}; checkpoint: {checkpoint}")
    print(f"{(time.monotonic() - start) / 60:.1f} minutes in all; one page of it all: vos-umec report {out}")
