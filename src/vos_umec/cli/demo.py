"""`vos-umec demo`: the whole way on made video, from nothing, in minutes."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vos_umec.data.sequences import VideoSequence
    from vos_umec.inference.segmenter import VideoSegmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec demo`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args([]).seed
        0
    """
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for all of it")
    parser.add_argument("--seed", type=int, default=0, help="of the videos and of the training (default: 0)")
    parser.add_argument("--epochs", type=int, help="fewer or more epochs than configs/quickstart.yaml has")


def run(args: argparse.Namespace) -> int:
    """Make videos, train with mask refresh, segment held-out videos, score, and write pictures.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        VosUmecError: If the configuration or the output folder cannot be used.
    """
    from pytorch_lightning import seed_everything

    from vos_umec.cli.trainer import run_cli
    from vos_umec.inference.protocols import change_settings
    from vos_umec.inference.segmenter import VideoSegmenter
    from vos_umec.metrics.results import print_table
    from vos_umec.training.checkpoint import load_module
    from vos_umec.training.evaluation import (
        COPY,
        PROPAGATION,
        SequenceEvaluation,
        score_table,
    )
    from vos_umec.training.module import UMECModule

    start = time.monotonic()
    fit = ["fit", "--config", "configs/quickstart.yaml", f"--seed_everything={args.seed}"]
    fit += [
        f"--data.root={args.out / 'videos'}",
        f"--data.seed={args.seed}",
        f"--data.video_seed={args.seed}",
        f"--trainer.logger.save_dir={args.out}",
    ]
    fit.append("--trainer.limit_val_batches=0")  # scored below, beside the baselines
    if args.epochs is not None:
        fit.append(f"--trainer.max_epochs={args.epochs}")
    cli = run_cli(fit)
    trained = cli.model
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes; now segmenting the held-out videos")

    seed_everything(args.seed)
    own = {name: value for name, value in trained.hparams.items() if not name.startswith("_")}  # not the CLI's
    untrained = UMECModule(**own)
    sequences = cli.datamodule.sequences
    settings = trained.evaluation.segmenter or {}
    shipped = load_module()
    # Its own read-out takes four to five times as long.
    quick = {"short_side": 240, "readout": {"radius": 12, "permanent_radius": 30}}
    ready_settings = change_settings(shipped.hparams["segmenter"], quick)
    evaluations = (
        SequenceEvaluation(untrained.network, {**settings, "rounds": 0}, baselines=False),
        SequenceEvaluation(trained.network, settings, baselines=True),
        SequenceEvaluation(shipped.network, ready_settings, baselines=False),
    )
    for sequence in sequences:
        for evaluation in evaluations:
            evaluation.update(sequence)
    before, rows, ready = (evaluation.rows() for evaluation in evaluations)
    (untrained_rows,), (shipped_rows,) = before.values(), ready.values()
    columns = {
        COPY: rows[COPY],
        "untrained_label_propagation": untrained_rows,
        "trained_label_propagation": rows[PROPAGATION],
        "trained_umec": rows["umec"],
        "shipped_model": shipped_rows,
    }
    print_table(score_table(columns))
    segmenters = {
        "untrained": VideoSegmenter(untrained.network, **{**settings, "rounds": 0}),
        "shipped model": VideoSegmenter.from_protocol(shipped.network, **ready_settings),
        "trained": VideoSegmenter(trained.network, **settings),
    }
    picture, video = _show(args.out, sequences[0], segmenters)
    print(f"look at {picture} and {video}")
    print(f"checkpoint: {Path(cli.trainer.log_dir or args.out) / 'checkpoints' / 'last.ckpt'}")
    print(f"{(time.monotonic() - start) / 60:.1f} minutes in all")
    return 0


def _show(out: Path, sequence: "VideoSequence", segmenters: "dict[str, VideoSegmenter]") -> tuple[Path, Path]:
    """Write a picture of one held-out video, the truth and a row a segmenter; and a video by the last of them."""
    from vos_umec.io.masks import read_mask
    from vos_umec.io.video_writer import VideoWriter
    from vos_umec.viz.overlay import overlay
    from vos_umec.viz.sheets import contact_sheet, save_picture

    source = sequence.source()
    shown = [round(i * (len(source) - 1) / 5) for i in range(6)]
    frames = source.read(range(len(source)))
    rows = [[overlay(frames[i], read_mask(sequence.annotations[i])) for i in shown]]
    for segmenter in segmenters.values():
        pictures = [overlay(frames[i], ids) for i, ids in segmenter.segment(source, sequence.prompts)]
        rows.append([pictures[i] for i in shown])
    video = out / "overlay.mp4"
    with VideoWriter(video, source.fps) as writer:
        for picture in pictures:
            writer.write(picture)
    sheet = out / "result.png"
    save_picture(sheet, contact_sheet(rows, labels=[[row] * len(shown) for row in ("truth", *segmenters)]))
    return sheet, video
