"""Write a trained network to use it elsewhere: a small file, a folder to share, or parts for other programs.

Example:
    vos-umec export runs/folder/version_0/checkpoints/last.ckpt --out model.safetensors --note.data "38 clips"
    vos-umec export last.ckpt --out my-model --scores scores.json    # with config.json and a card, README.md
    vos-umec export last.ckpt --out my-parts --format onnx    # encoder, mask_encoder and decoder

--checkpoint of the other commands takes the file and the folder; the parts are for other programs.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from vos_umec.cli.shared import SEGMENTER, nested_readout
from vos_umec.errors import ConfigError
from vos_umec.inference.protocols import adjust_settings
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.written import WrittenFiles, single_file
from vos_umec.models.description import Description
from vos_umec.models.factory import build_network
from vos_umec.models.hub import WEIGHTS, find_model
from vos_umec.models.model_card import model_card
from vos_umec.models.model_file import SUFFIX, load_described, model_bytes, read_training
from vos_umec.models.model_folder import CONFIG, README, config_bytes, count_parameters, folder_files
from vos_umec.models.parts import ENDINGS, PartFormat, WrittenPart, export_parts
from vos_umec.models.umec import PropagationNetwork

SETTINGS = SEGMENTER
_FILE_ENDINGS = (".bin", ".ckpt", ".onnx", ".pt", ".pt2", ".pth", ".safetensor")  # of what is meant as a file
_USE: dict[PartFormat, str] = {
    "onnx": """\
```python
import onnxruntime

encoder = onnxruntime.InferenceSession("encoder.onnx")
key, trunk, *skips = encoder.run(None, {"frame": frame})
```""",
    "torch-export": """\
```python
import torch

encoder = torch.export.load("encoder.pt2").module()
key, trunk, *skips = encoder(frame)
```

A .pt2 file is for torch alone, and may run code where it is loaded: take it only from people you trust.""",
}
_PARTS = """\
Frames are RGB, normalised with ImageNet's mean and deviation; H and W are multiples of {stride}. Masks are soft,
0 to 1. The parts are the network; what reads masks along the affinity of keys from frame to frame is not in them.
`config.json` has its settings, and `vos_umec.VideoSegmenter` is it. There `readout` is the mask embedding read out
of memory, `embedding` that of the frame with the mask of the round before, and a sigmoid of `logits` is the refined
mask."""


def run(
    checkpoint: Path,
    *,
    out: Path,
    format: Literal["model", "onnx", "torch-export"] = "model",
    note: dict[str, str] | None = None,
    scores: Path | None = None,
    overwrite: bool = False,
    pyramid_weights: list[float] | None = None,
    **settings: Any,
) -> None:
    """Write a network.

    Args:
        checkpoint: A .ckpt file that training wrote, a model file, a folder, or a model's name on the Hub.
        out: A file that ends in .safetensors, or a folder, for model.safetensors, config.json and README.md, or for
            the parts. A file that vos-umec did not write, or that was changed since, is never replaced.
        format: model, what vos_umec reads; or encoder, mask encoder and decoder as onnx or torch-export, for
            batches and frames of any size, each compared with the network itself on two sizes.
        note: What a reader should know about the model, by name: --note.data "38 clips" --note.minutes 60. A note
            named license goes into the head of the card.
        scores: A file that `vos-umec evaluate --json` wrote, for the card of a folder.
        overwrite: Replace files in OUT that vos-umec did not write.
        pyramid_weights: Weights of the encoder's pyramid levels, the frame itself first: "[1, 0.5]"; without them,
            as trained.
        **settings: Arguments of `VideoSegmenter.from_protocol` and of `Readout` that replace the checkpoint's own.
    """
    alone = format == "model" and out.suffix == SUFFIX
    if not alone and out.suffix in (SUFFIX, *_FILE_ENDINGS):
        kind = f"a model file ends in {SUFFIX}" if format == "model" else f"the parts as {format} go into a folder"
        raise ConfigError(f"{kind}; found --out {out.name}")
    if alone and scores is not None:
        raise ConfigError(f"--scores are for the card of a folder; found --out {out.name}: name a folder")
    names = [WEIGHTS] if format == "model" else _names(ENDINGS[format])
    written = single_file(out, "--out", overwrite) if alone else WrittenFiles(out)
    if not alone and not overwrite:
        written.require_own(out / name for name in (*names, CONFIG, README))
    figures = None if scores is None else _read_scores(scores)
    checkpoint = find_model(checkpoint)
    network, description = _changed(checkpoint, pyramid_weights, settings)
    card = {**read_training(checkpoint), **(note or {})}
    if alone:
        written.write(out, model_bytes(network, description, card))
        print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
    elif format == "model":
        for name, content in folder_files(network, description, card, figures).items():
            written.write(out / name, content)
        print(f"{out}: {', '.join((*names, CONFIG, README))}; the card is yours to complete")
    else:
        _write_parts(network, description, written, format, card, figures)


def _changed(
    checkpoint: Path, pyramid_weights: list[float] | None, settings: Mapping[str, Any]
) -> tuple[PropagationNetwork, Description]:
    """The network of a checkpoint with the settings that were given, and its description."""
    network, description = load_described(checkpoint)
    segmenter = adjust_settings(description.segmenter, nested_readout(settings))
    VideoSegmenter.from_protocol(network, **segmenter)  # raises if a setting is wrong
    spec = description.network
    if pyramid_weights is not None and spec is not None:
        changed: dict[str, Any] = {"preset": spec} if isinstance(spec, str) else dict(spec)
        encoder = changed.get("encoder") or {}
        if "class_path" in encoder or "class_path" in changed:
            raise ConfigError(f"--pyramid_weights are for the encoder of a preset; this network is {spec}")
        spec = {**changed, "encoder": {**encoder, "pyramid_weights": pyramid_weights}}
        tensors = network.state_dict()
        network = build_network(spec).eval()  # raises if the weights are wrong
        network.load_state_dict(tensors)
    return network, replace(description, network=spec, segmenter=segmenter)


def _write_parts(
    network: PropagationNetwork,
    description: Description,
    written: WrittenFiles,
    kind: PartFormat,
    card: Mapping[str, Any],
    scores: Mapping[str, Any] | None,
) -> None:
    """Write the parts, config.json and the card; none of them if one part fails."""
    out = written.folder
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        parts = []
        for part in export_parts(network, Path(temporary), kind):
            parts.append(part)
            size = part.path.stat().st_size / 2**20
            print(
                f"{part.path.name}: {size:.1f} MiB, {_difference(part)} from eager on two other sizes", flush=True
            )
        out.mkdir(exist_ok=True)
        for part in parts:
            written.adopt(part.path, out / part.path.name)
    about = {part.path.name: {"inputs": part.inputs, "outputs": part.outputs} for part in parts}
    written.write(out / CONFIG, config_bytes(description, stride=network.stride, parts=about))
    table = [("file", "inputs", "outputs", "largest difference from eager"), *map(_row, parts)]
    use = f"{_USE[kind]}\n\n{_PARTS.format(stride=network.stride)}"
    text = model_card(description, count_parameters(network), card, scores, use, table)
    written.write(out / README, text.encode())
    print(f"{out}: these, {CONFIG} and {README}; the card is yours to complete")


def _names(ending: str) -> list[str]:
    return [f"{part}{ending}" for part in ("encoder", "mask_encoder", "decoder")]


def _difference(part: WrittenPart) -> str:
    return f"at most {part.difference:.1e} (values reach {part.largest:.2g})"


def _row(part: WrittenPart) -> tuple[str, ...]:
    shapes = ("; ".join(f"{name} {words}" for name, words in each.items()) for each in (part.inputs, part.outputs))
    return (part.path.name, *shapes, _difference(part))


def _read_scores(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read scores from {path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no scores; give a file that `vos-umec evaluate --json` wrote")
    return found
