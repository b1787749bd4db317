"""Train a model for some minutes more on your own unlabelled video. The encoder stays as it is.

Example:
    vos-umec finetune clip.mp4 --mask first.png --out mine
    vos-umec segment clip.mp4 --mask first.png --out out --checkpoint mine/finetuned.safetensors
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vos_umec.data.index import INDEX_NAME
from vos_umec.errors import ConfigError
from vos_umec.io.label_file import MaskReading
from vos_umec.io.written import WrittenFiles
from vos_umec.shipped import SHIPPED

SETTINGS = {"how to read a mask, where it leaves that open": (MaskReading,)}
_PICTURE = 0.2  # of the minutes


def run(
    videos: Path,
    *,
    out: Path,
    minutes: float = 10.0,
    checkpoint: Path | None = None,
    mask: list[str] | None = None,
    frame: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> None:
    """Train on, write the model, and show what changed.

    Args:
        videos: A video, a folder of frames, or a folder of either.
        out: Folder for finetuned.safetensors and the files of the run. A file in it that vos-umec did not write is
            never replaced.
        minutes: Time of the training. With MASK a fifth of it is for the picture, which shows as many frames as
            are segmented by then.
        checkpoint: Where to start from, as --checkpoint of `segment`; without it, vos_umec's own.
        mask: A mask as FILE or FRAME=FILE, as `segment` takes it, of VIDEOS, which is then one video: also write
            before_and_after.png.
        frame: The frame that the mask belongs to, by its name or its index.
        seed: Seed of the training.
        overwrite: Replace files in OUT that vos-umec did not write.
        **settings: Arguments of `MaskReading`.
    """
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes is {minutes:g}; expected a number above 0")
    model, picture = out / "finetuned.safetensors", out / "before_and_after.png"
    written = WrittenFiles(out)
    if not overwrite:
        written.require_own([model, picture])
    from vos_umec.cli.prompts import read_prompts, require_files, split_reading
    from vos_umec.cli.shared import save_comparison
    from vos_umec.cli.trainer import run_cli
    from vos_umec.data.probe import open_probed
    from vos_umec.inference.segmenter import VideoSegmenter
    from vos_umec.models.factory import NetworkSettings
    from vos_umec.models.hub import find_model
    from vos_umec.models.model_file import model_bytes
    from vos_umec.training.checkpoint import load_module
    from vos_umec.viz.by_product import ByProduct

    reading, _ = split_reading(settings)
    if mask is not None:
        require_files(mask, [], reading)
    start = find_model(checkpoint or SHIPPED)
    before = load_module(start)
    if mask is not None:  # read here, so that a wrong mask shows before the training
        source = open_probed(videos)
        prompts = read_prompts(videos, source, mask, frame=frame, reading=reading)
        print(*prompts.lines, sep="\n", flush=True)
    network = before.description().network
    if network is None:
        raise ConfigError(
            f"{start} was written by {type(before).__name__}, which builds its own network; train it on with "
            "`vos-umec fit` and your own configuration"
        )
    # All keys, also those of no value: they replace what two_cores.yaml has there.
    whole = {"preset": network} if isinstance(network, str) else dict(network)
    if "class_path" not in whole:
        whole = {**asdict(NetworkSettings()), **whole}
    own = {"network": whole, "evaluation.segmenter": before.evaluation.segmenter or {}}
    cli = run_cli(
        [
            "fit",
            "--config=configs/two_cores.yaml",
            "--config=configs/finetune.yaml",
            *(f"--model.{name}={json.dumps(value)}" for name, value in own.items()),
            f"--model.init_from={start}",
            f"--data.root={_folder(videos, out)}",
            f"--trainer.logger.save_dir={out}",
            f"--budget.minutes={minutes if mask is None else (1 - _PICTURE) * minutes}",
            f"--seed_everything={seed}",
        ]
    )
    card = {"finetuned_from": (checkpoint or SHIPPED).name, "minutes": minutes, "videos": videos.name}
    written.write(model, model_bytes(cli.model.network, cli.model.description(), card))
    print(f"{model} is the new model; give it to the other commands as --checkpoint", flush=True)
    if mask is not None:
        segmenters = {
            label: VideoSegmenter.from_protocol(module.network.eval(), **(before.evaluation.segmenter or {}))
            for label, module in (("before", before), ("after", cli.model))
        }
        with ByProduct(picture):
            unnamed = out / ".before_and_after.partial.png"
            save_comparison(unnamed, source, prompts.masks, segmenters, seconds=60 * _PICTURE * minutes)
            written.adopt(unnamed, picture)
            print(f"look at {picture}")
    else:
        print(f"look at the pseudo masks in {cli.datamodule.store.root / 'pictures'}")


def _folder(videos: Path, out: Path) -> Path:
    """The folder to search for videos. A single file is linked into a folder of its own."""
    if not videos.is_file():
        return videos
    folder = out / "finetuned_on"
    folder.mkdir(parents=True, exist_ok=True)
    if real := [path for path in folder.iterdir() if not path.is_symlink() and path.name != INDEX_NAME]:
        raise ConfigError(f"{real[0]} is where links to videos are made, and is no link; choose another --out")
    for link in folder.iterdir():
        if link.is_symlink():  # of an earlier run with the same --out
            link.unlink()
    (folder / videos.name).symlink_to(videos.resolve())
    return folder
