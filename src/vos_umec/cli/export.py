"""Write a trained network and how to segment with it as one small file, which every --checkpoint takes.

Example:
    vos-umec export runs/folder/version_0/checkpoints/last.ckpt --out model.safetensors --note.data "38 clips"
"""

from pathlib import Path
from typing import Any

from vos_umec.cli.shared import SEGMENTER, nested_readout
from vos_umec.errors import ConfigError
from vos_umec.inference.load import load_module
from vos_umec.inference.protocols import change_settings
from vos_umec.inference.segmenter import VideoSegmenter
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

    Raises:
        VosUmecError: If the checkpoint or a setting cannot be used.
    """
    module = load_module(checkpoint)
    own = {} if "protocol" in settings else module.hparams["segmenter"] or {}
    module.hparams["segmenter"] = change_settings(own, nested_readout(settings))
    VideoSegmenter.from_protocol(module.network, **module.hparams["segmenter"])  # raises if a setting is wrong
    if pyramid_weights is not None:
        parts = module.hparams["network_args"] or {}
        encoder = parts.get("encoder", {})
        if "class_path" in encoder:
            raise ConfigError(
                f"--pyramid_weights are for the encoder of a preset; this network has {encoder['class_path']}"
            )
        module.hparams["network_args"] = {**parts, "encoder": {**encoder, "pyramid_weights": pyramid_weights}}
        module.build_network()  # raises if the weights are wrong
    write_model(module, out, note)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
