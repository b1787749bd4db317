r"""Measure how long masks hold: J and F some frames after the true masks, by label propagation and the whole model.

Example:
    vos-umec horizon --root DAVIS --out runs/horizon    # the table, horizon.json and horizon.png
    vos-umec horizon --root DAVIS --settings "{short_side: 240, readout: {radius: 12, permanent_radius: 30}}" \
        --segmenter.final "{memory_masks: final}" --segmenter.coarse "{memory_masks: coarse}"
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from vos_umec.io.written import WrittenFiles
from vos_umec.metrics.horizon import HORIZONS
from vos_umec.metrics.results import print_table
from vos_umec.progress import progress
from vos_umec.shipped import SHIPPED


def run(
    *,
    root: Path,
    checkpoint: Path | None = None,
    dataset: Literal["davis17", "youtube-vos"] = "davis17",
    split: str | None = None,
    starts: int = 3,
    horizons: list[int] | None = None,
    settings: dict[str, Any] | None = None,
    segmenter: dict[str, dict[str, Any]] | None = None,
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Print J and F by horizon, and the differences from label propagation; write them where asked.

    Args:
        root: Folder of the data set as downloaded: JPEGImages, Annotations, ImageSets.
        checkpoint: A .ckpt or .safetensors file, a folder or a name on the Hub; without it, vos_umec's own.
        dataset: The layout of the folder.
        split: Split to measure on; without it, val of davis17 and train of youtube-vos.
        starts: At how many frames of each sequence the true masks are given: at the first one, and evenly spaced.
        horizons: Frames after a start at which the masks are scored, "[1, 4, 8]"; without it, 1, 4, 8, 12 and 24.
            The last annotated frame is scored as well, from the first start.
        settings: Arguments of VideoSegmenter that replace the model's own, for label propagation, too.
        segmenter: The segmenters to compare with label propagation, each by a name, with the arguments in which it
            differs, --segmenter.NAME "{rounds: 1}"; without it, the whole model alone, named umec.
        out: Folder for horizon.json, all scores, and horizon.png, a plot, which needs matplotlib. A file that
            vos-umec did not write is never replaced.
        device: auto, cpu, cuda, cuda:1 or mps.
        overwrite: Replace the two files in OUT, whoever wrote them.
    """
    written = None if out is None else WrittenFiles(out)
    if written is not None and not overwrite:
        written.require_own([written.folder / name for name in ("horizon.json", "horizon.png")])
    from vos_umec.data.davis import davis_sequences
    from vos_umec.data.youtube_vos import youtube_vos_sequences
    from vos_umec.device import pick_device
    from vos_umec.inference.protocols import adjust_settings
    from vos_umec.models.model_file import load_described
    from vos_umec.training.evaluation import PROPAGATION, WHOLE
    from vos_umec.training.horizon import measure_horizons

    place = pick_device(device)
    if dataset == "davis17":
        sequences = davis_sequences(root, split or "val")
    else:
        sequences = youtube_vos_sequences(root, split or "train")
    network, description = load_described(checkpoint or SHIPPED)
    common = adjust_settings(description.segmenter, settings or {})
    segmenters = {PROPAGATION: {**common, "rounds": 0}}
    for name, own in (segmenter or {WHOLE: {}}).items():
        segmenters[name] = adjust_settings(common, own)
    scores = measure_horizons(
        network.to(place),
        sequences,
        segmenters,
        HORIZONS if horizons is None else horizons,
        starts,
        partial(progress, what="measuring"),
    )
    print_table(scores.table())
    if written is not None:
        about = {"checkpoint": (checkpoint or SHIPPED).name, "segmenters": segmenters}
        file = written.folder / "horizon.json"
        written.write(file, scores.to_json(**about).encode())
        picture = scores.save_plot(file.with_name(".horizon.partial.png"))
        if picture is not None:
            written.adopt(picture, file.with_suffix(".png"))
        print(f"the scores are in {file}" + ("" if picture is None else f", a plot in {file.with_suffix('.png')}"))
