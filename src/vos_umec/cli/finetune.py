"""`vos-umec finetune`: train on for some minutes on one's own unlabelled video."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vos_umec.shipped import SHIPPED

if TYPE_CHECKING:
    import numpy as np

    from vos_umec.io.source import FrameSource
    from vos_umec.training.module import UMECModule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec finetune`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["clip.mp4", "--out", "adapted"]).minutes
        10.0
    """
    parser.add_argument("videos", type=Path, help="a video, a folder of frames, or a folder of either")
    parser.add_argument("--out", type=Path, required=True, help="folder for finetuned.safetensors and the run")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=SHIPPED,
        help="a .ckpt or .safetensors file to start from (default: the model that comes with vos_umec)",
    )
    parser.add_argument(
        "--mask", type=Path, help="mask of the first frame of VIDEOS, one video: also show it before and after"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Adapt a model to videos, write it, and show what it did.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        VosUmecError: If the videos, the mask or the checkpoint cannot be used.
    """
    from vos_umec.cli.options import read_given_mask
    from vos_umec.cli.trainer import run_cli
    from vos_umec.io.source import open_source
    from vos_umec.models.model_file import write_model
    from vos_umec.training.checkpoint import load_module

    before = load_module(args.checkpoint)
    mask = None
    if args.mask is not None:  # whatever is wrong with it shows before the minutes are spent
        source = open_source(args.videos)
        mask = read_given_mask(args.mask, args.videos, source)
    settings = {name: before.hparams[name] for name in SETTINGS}  # null too, or two_cores.yaml's would stay
    cli = run_cli(
        [
            "fit",
            "--config=configs/two_cores.yaml",
            "--config=configs/finetune.yaml",
            *(f"--model.{name}={_plain(value)}" for name, value in settings.items()),
            f"--model.init_from={args.checkpoint}",
            f"--data.root={_folder(args.videos, args.out)}",
            f"--trainer.logger.save_dir={args.out}",
            f"--budget.minutes={args.minutes}",
            f"--seed_everything={args.seed}",
        ]
    )
    after = cli.model
    path = args.out / "finetuned.safetensors"
    card = {"finetuned_from": args.checkpoint.name, "minutes": args.minutes, "videos": args.videos.name}
    write_model(after.network, path, after.description(after.hparams["network"]), card)
    if mask is not None:
        print(f"look at {_show(args.out, source, mask, before, after)}")
    else:
        print(f"look at the pseudo masks in {cli.datamodule.store.root / 'pictures'}")
    print(f"{path} is the adapted model; give it to the other commands as --checkpoint")
    return 0


def _plain(value: object) -> str:
    """A setting as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _folder(videos: Path, out: Path) -> Path:
    """A folder to search for videos: a single file is linked into one of its own."""
    if not videos.is_file():
        return videos
    folder = out / "adapted_to"
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if link.is_symlink():  # of an adaptation before, into the same place
            link.unlink()
    (folder / videos.name).symlink_to(videos.resolve())
    return folder


def _show(out: Path, source: "FrameSource", mask: "np.ndarray", *modules: "UMECModule") -> Path:
    """Write frames of the video with the masks of each model, one row a model."""
    from vos_umec.inference.segmenter import VideoSegmenter
    from vos_umec.viz.overlay import overlay
    from vos_umec.viz.sheets import contact_sheet, save_picture

    shown = sorted({round(i * (len(source) - 1) / 5) for i in range(6)})
    frames = dict(zip(shown, source.read(shown), strict=True))
    rows = []
    for module in modules:
        segmenter = VideoSegmenter.from_protocol(module.network.eval(), **(module.evaluation.segmenter or {}))
        found = segmenter.segment(source, {0: mask})
        rows.append([overlay(frames[i], ids) for i, ids in found if i in frames])
    picture = out / "before_and_after.png"
    labels = [[row] * len(shown) for row in ("before", "after")]
    save_picture(picture, contact_sheet(rows, labels=labels))
    return picture
