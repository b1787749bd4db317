"""Write a trained network and how to segment with it as one small file, which every --checkpoint takes.

Example:
    vos-umec export runs/folder/version_0/checkpoints/last.ckpt --out model.safetensors --note.data "38 clips"
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vos_umec.cli.shared import SEGMENTER, nested_readout
from vos_umec.errors import ConfigError
from vos_umec.inference.load import load_described
from vos_umec.inference.protocols import change_settings
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.factory import build_network
from vos_umec.models.model_file import write_model

SETTINGS = SEGMENTER


def run(
    checkpoint: Path,
    *,
    out: Path,
    note: dict[str, str] | None = None,
    pyramid_weights: list[float] | None = None,
    **settings: Any,
) -> None:
    """Write a model file.

    Args:
        checkpoint: A .ckpt file that training wrote.
        out: The file to write, ending in .safetensors.
        note: What a reader should know about the model, by name: --note.data "38 clips" --note.minutes 60.
        pyramid_weights: Weights of the encoder's pyramid levels, the frame itself first: "[1, 0.5]"; without them,
            as trained.
        **settings: Arguments of `VideoSegmenter.from_protocol` and of `Readout` that replace the checkpoint's own.
    """
    network, description = load_described(checkpoint)
    own = {} if "protocol" in settings else description.segmenter
    segmenter = change_settings(own, nested_readout(settings))
    VideoSegmenter.from_protocol(network, **segmenter)  # raises if a setting is wrong
    spec = description.network
    if pyramid_weights is not None and spec is not None:
        changed: dict[str, Any] = {"preset": spec} if isinstance(spec, str) else dict(spec)
        encoder = changed.get("encoder") or {}
        if "class_path" in encoder or "class_path" in changed:
            raise ConfigError(f"--pyramid_weights are for the encoder of a preset; this network is {spec}")
        spec = {**changed, "encoder": {**encoder, "pyramid_weights": pyramid_weights}}
        build_network(spec)  # raises if the weights are wrong
    write_model(network, out, replace(description, network=spec, segmenter=segmenter), note)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
