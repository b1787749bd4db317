"""E, V and D as programs of their own, by torch.export and ONNX, checked against eager.

Each part is in its plain form, fp32, one object a row: what VideoSegmenter computes once for all objects of a
frame, in bf16 or in windows, is left to whoever runs the parts. Batch, height and width are free; the sides of a
frame are multiples of the stride.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from vos_umec.errors import ConfigError, MissingDependencyError, first_sentence
from vos_umec.matching.evidence import EVIDENCE
from vos_umec.models.umec import UMEC, PropagationNetwork

PartFormat = Literal["onnx", "torch-export"]
ENDINGS: dict[PartFormat, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
_TRACED, _CHECKED = (2, 6, 9), ((1, 7, 5), (3, 12, 16))  # batch, rows and columns of cells
_TOLERANCE = 1e-3  # of the largest value that eager gives; fp32 in another order of sums has 1e-5


@dataclass(frozen=True)
class WrittenPart:
    """A part that was written, and how far it is from eager.

    Attributes:
        path: Its file.
        inputs: Their names and shapes in words, such as "B x 3 x H x W", in the order that they are given in.
        outputs: The same of what it gives.
        difference: Largest difference of an output from eager, on two other sizes.
        largest: Largest value that eager gave there.
    """

    path: Path
    inputs: dict[str, str]
    outputs: dict[str, str]
    difference: float
    largest: float


class _Encoder(nn.Module):
    def __init__(self, network: PropagationNetwork) -> None:
        super().__init__()
        self.part = network.encoder

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        features = self.part(frame)
        return (features.key, features.trunk, *features.skips)


class _MaskEncoder(nn.Module):
    def __init__(self, network: UMEC) -> None:
        super().__init__()
        self.part = network.mask_encoder

    def forward(self, frame: Tensor, mask: Tensor, trunk: Tensor) -> tuple[Tensor]:
        return (self.part(frame, mask, trunk),)


class _Decoder(nn.Module):
    def __init__(self, network: UMEC) -> None:
        super().__init__()
        self.part = network.decoder

    def forward(self, V_q: Tensor, Vbar_q: Tensor, mask: Tensor, *rest: Tensor) -> tuple[Tensor]:
        """`rest`: the skips; the frame, if D sees it; the evidence, if D takes it."""
        skips, more = rest[: len(self.part.skips)], list(rest[len(self.part.skips) :])
        frame = more.pop(0) if self.part.image_dim else mask
        evidence = more.pop(0) if self.part.evidence is not None else None
        cached = self.part.precompute(skips, frame)
        return (self.part(self.part.precompute_object(V_q, evidence), Vbar_q, cached, mask),)


@dataclass(frozen=True)
class _Part:
    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


def export_parts(network: PropagationNetwork, folder: Path, kind: PartFormat) -> Iterator[WrittenPart]:
    """Write encoder, mask_encoder and decoder into a folder, and compare each with eager.

    Args:
        network: A UMEC, or an encoder alone, of which only that is written; on the CPU, in evaluation mode.
        folder: Where to; it exists.
        kind: "onnx" writes NAME.onnx, "torch-export" NAME.pt2.

    Yields:
        Each part, once it is written and compared.

    Raises:
        MissingDependencyError: If packages for ONNX are not installed.
        ConfigError: If a part cannot be exported, or computes something else than eager.
    """
    if kind == "onnx" and (missing := [name for name in ("onnxruntime", "onnxscript") if find_spec(name) is None]):
        raise MissingDependencyError(
            f"ONNX needs {' and '.join(missing)}, which is not installed; pip install 'vos-umec[export]'"
        )
    with torch.no_grad(), _quiet():
        for number, part in enumerate(_parts(network, *_TRACED)):
            path = folder / f"{part.name}{ENDINGS[kind]}"
            others = [_parts(network, *size)[number] for size in _CHECKED]
            try:
                program = torch.export.export(
                    part.module, tuple(part.inputs.values()), dynamic_shapes=_free_sizes(part, network.stride)
                )
                for graph in program.graph_module.modules():  # blocks without autocast have graphs of their own
                    for node in graph.graph.nodes if isinstance(graph, GraphModule) else ():
                        node.meta.pop("stack_trace", None)  # it names folders of this machine
                if kind == "onnx":
                    _save_onnx(program, part, path)
                else:
                    torch.export.save(program, path)
                difference, largest = _compare(path, others)
            except Exception as error:  # of any kind: torch says in many ways what it cannot export
                raise ConfigError(
                    f"{part.name} cannot be exported as {kind}: {type(error).__name__}: {first_sentence(error)}; "
                    "share the model file, which vos_umec reads"
                ) from error
            if not difference <= _TOLERANCE * max(1.0, largest):
                raise ConfigError(
                    f"{part.name} as {kind} differs from eager by {difference:.2g}, where values reach "
                    f"{largest:.2g}; share the model file, which vos_umec reads"
                )
            inputs = _words(part.inputs, network.stride)
            outputs = _words(dict(zip(part.outputs, _run(part), strict=True)), network.stride)
            yield WrittenPart(path, inputs, outputs, difference, largest)


def _parts(network: PropagationNetwork, B: int, h: int, w: int) -> list[_Part]:
    """The parts with inputs of a size, made by eager: normalised frames of noise, random masks."""
    generator = torch.Generator().manual_seed(h)
    s = network.stride
    frame = torch.randn(B, 3, s * h, s * w, generator=generator)
    features = network.encoder(frame)
    skips = {f"skip_{i}": skip for i, skip in enumerate(features.skips)}
    parts = [_Part("encoder", _Encoder(network).eval(), {"frame": frame}, ("key", "trunk", *skips))]
    if isinstance(network, UMEC):
        mask = torch.rand(B, 1, s * h, s * w, generator=generator)
        inputs = {"frame": frame, "mask": mask, "trunk": features.trunk}
        parts.append(_Part("mask_encoder", _MaskEncoder(network).eval(), inputs, ("embedding",)))
        embedding = network.mask_encoder(frame, mask, features.trunk)
        inputs = {"readout": embedding.roll(1, dims=-1), "embedding": embedding, "mask": mask, **skips}
        if network.decoder.image_dim:
            inputs["frame"] = frame
        if network.decoder.evidence is not None:
            inputs["evidence"] = torch.rand(B, EVIDENCE, h, w, generator=generator)
        parts.append(_Part("decoder", _Decoder(network).eval(), inputs, ("logits",)))
    return parts


def _free_sizes(part: _Part, stride: int) -> Any:
    """Batch, height and width of each input as free sizes; all follow from the grid's rows and columns."""
    batch, rows, columns = (Dim(name, min=least) for name, least in (("batch", 1), ("rows", 2), ("columns", 2)))
    sizes = []
    for x in part.inputs.values():
        times = x.shape[-2] // _TRACED[1]  # 1 at the grid, the stride at the frame, between for skips
        sizes.append(
            {0: batch, 2: times * rows if times > 1 else rows, 3: times * columns if times > 1 else columns}
        )
    fixed = 3 if isinstance(part.module, _Decoder) else len(sizes)
    return (*sizes[:fixed], tuple(sizes[fixed:])) if fixed < len(sizes) else tuple(sizes)


def _save_onnx(program: ExportedProgram, part: _Part, path: Path) -> None:
    from onnxscript import opset18 as op

    def copysign(x: Any, y: Any) -> Any:  # of to_lab; ONNX has none
        size = op.Abs(x)
        return op.Where(op.Less(y, 0.0), op.Neg(size), size)

    made = torch.onnx.export(
        program,
        dynamo=True,
        input_names=list(part.inputs),
        output_names=list(part.outputs),
        custom_translation_table={torch.ops.aten.copysign.Tensor: copysign},
        verbose=False,
    )
    if made is None:
        raise ConfigError("torch.onnx.export gave no program")
    for node in made.model.graph:
        node.metadata_props.clear()  # as above
    made.save(path, external_data=False)


def _compare(path: Path, others: list[_Part]) -> tuple[float, float]:
    """The largest difference of the file's outputs from eager, and eager's largest value."""
    difference = largest = 0.0
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        loaded = torch.export.load(path).module()
    for part in others:
        if path.suffix == ".onnx":
            arrays = {name: x.numpy() for name, x in part.inputs.items()}
            found = [torch.from_numpy(array) for array in session.run(None, arrays)]
        else:
            found = list(loaded(*part.inputs.values()))
        for ours, eager in zip(found, _run(part), strict=True):
            difference = max(difference, float((ours - eager).abs().max()))
            largest = max(largest, float(eager.abs().max()))
    return difference, largest


def _run(part: _Part) -> tuple[Tensor, ...]:
    results: tuple[Tensor, ...] = part.module(*part.inputs.values())
    return results


def _words(tensors: dict[str, Tensor], stride: int) -> dict[str, str]:
    """Shapes in words, as "B x 3 x H x W" of frames and "B x 64 x H/4 x W/4" of keys at a stride of 4."""
    words = {}
    for name, x in tensors.items():
        cell = stride * _TRACED[1] // x.shape[-2]
        sides = "H x W" if cell == 1 else f"H/{cell} x W/{cell}"
        words[name] = f"B x {x.shape[1]} x {sides}"
    return words


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes of the exporters, which are for their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for each, level in zip(loggers, before, strict=True):
                each.setLevel(level)
