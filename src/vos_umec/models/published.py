"""Published files of a ResNet into an encoder: CRW, VFS, DUL, UMEC, MAST, MoCo, DINO, UVC, torchvision."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from vos_umec.errors import CheckpointError
from vos_umec.models.weights import load_tensors, read_tensors, strip_prefix

if TYPE_CHECKING:
    from vos_umec.models.encoder import ResNetEncoder

log = logging.getLogger(__name__)

# Names inside a ResNet, where a file's differ from torchvision's.
_MAST = (
    (r"\bconv1\.0\.", "conv1."),  # the stem
    (r"\bconv1\.1\.", "bn1."),
    (r"\bleft\.0\.", "conv1."),  # a block
    (r"\bleft\.1\.", "bn1."),
    (r"\bleft\.3\.", "conv2."),
    (r"\bleft\.4\.", "bn2."),
    (r"\bshortcut\.", "downsample."),
)
_REFLECTED = r"\b(conv\d)\.1\.(?=weight$)"  # CRW: padding by reflection stands before the conv
_OTHERS = (
    (r"\b(conv\d)\.conv\.", r"\1."),  # VFS, as mmaction: a conv and its norm share a module
    (r"\bconv(\d)\.bn\.", r"bn\1."),
    (r"\bdownsample\.conv\.", "downsample.0."),
    (r"\bdownsample\.bn\.", "downsample.1."),
    (_REFLECTED, r"\1."),
)

# What makes keys of the trunk's features, whatever the prefix, by its name in the encoder.
_HEADS = (
    (r"^(.*\.)?backbone\.down_dim4\.block\.([01])\.", r"reduce.\2."),  # UMEC, ResNet-50
    (r"^(.*\.)?emb_q\.conv1\.", "head.0."),  # UMEC and DUL
    (r"^(.*\.)?emb_q\.bn1\.", "head.1."),
    (r"^(.*\.)?emb_q\.conv2\.", "head.3."),
    (r"^(.*\.)?post_convolution\.", "head.0."),  # MAST
)
_BEFORE_NORMS = {"reduce.0.bias": "reduce.1.running_mean", "head.0.bias": "head.1.running_mean"}

# Why a part of a file is left out.
_REASONS = (
    (r"layer\d$", "behind the last stage that is read"),
    (r"emb_q$|post_convolution$|down_dim4$", "this encoder makes its keys in another way"),
    (r"emb_v$", "its own code never uses it"),
    (r"down_dim[23]$", "convs on skips, which D here has in another form"),
    (r"mask_encoder$|decoder$", "not of an encoder, and of another form than V and D here"),
)
_TRAINING = "serves its training alone"


def load_published(encoder: "ResNetEncoder", path: str | Path) -> None:
    """Load the ResNet of a published checkpoint into an encoder, and what makes keys of its features.

    Takes torchvision's names under any prefix, and those of mmaction (VFS), of convs padded by reflection (CRW) and
    of MAST. Files of DUL, of UMEC's authors and of MAST hold a head that makes keys; an encoder of the same form
    gets it. A file of another depth or width is refused. The log says of every tensor whether it was used, or why
    not.

    Args:
        encoder: The encoder to fill.
        path: The file.

    Raises:
        CheckpointError: If the file cannot be read, holds no ResNet, or not this one.
    """
    file = read_tensors(path)
    renamed = _MAST if any(".left." in name for name in file) else _OTHERS
    trunk = encoder.net
    if renamed is _MAST and (encoder.color != "lab" or len(trunk.stem) > 3):
        raise CheckpointError(
            f"{path} is of MAST, whose ResNet sees Lab and does not pool; give it to a MASTEncoder"
        )
    names = {_our_name(name, renamed): name for name in file}
    expected = trunk.state_dict()
    prefix, found = strip_prefix({name: file[full] for name, full in names.items()}, "stem.0.weight", expected)
    if not found:
        raise CheckpointError(
            f"{path} holds no ResNet: no tensor is named conv1.weight under any prefix; give a file of a "
            "torchvision-style ResNet, or use TimmEncoder for other networks"
        )
    # Of the trunk's own stages the file must not hold more than the trunk; stages after the last one may.
    stages = tuple(f"stages.{i}." for i in range(len(trunk.stages)))
    left = load_tensors(
        trunk,
        {name: x for name, x in found.items() if name in expected or name.startswith(stages)},
        problem=f"{path} is a ResNet of another depth or width than this encoder",
        advice="give the encoder the file's blocks and bottleneck",
    )
    taken = {names[prefix + name] for name in found if name in expected}
    head = _load_head(encoder, file)
    log.info(
        "%s: %d tensors under '%s' and %d of a head loaded; unused: %s",
        path,
        len(taken),
        prefix,
        len(head),
        _unused(file.keys() - taken - head, file, prefix),
    )
    left += [] if head else [name for name in encoder.state_dict() if not name.startswith("net.")]
    if left:
        log.info("not in %s, left as they were: %s", path, ", ".join(left))
    if any(re.search(_REFLECTED, name) for name in taken) and renamed is _OTHERS and trunk.padding == "zeros":
        log.warning("%s was trained with padding by reflection; give the encoder padding: reflect", path)


def _our_name(name: str, renamed: Iterable[tuple[str, str]]) -> str:
    """A name in a ResNet file, whatever its prefix, as it is in a ResNetTrunk."""
    for pattern, replacement in renamed:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"(^|\.)layer([1-4])\.(?=\d)", lambda m: f"{m[1]}stages.{int(m[2]) - 1}.", name)
    if ".stages." in name or name.startswith("stages."):
        return name  # a block has convs and norms of its own
    return re.sub(r"(^|\.)(conv1|bn1)\.(?=\w+$)", lambda m: f"{m[1]}stem.{'01'[m[2] == 'bn1']}.", name)


def _load_head(encoder: "ResNetEncoder", file: Mapping[str, Tensor]) -> set[str]:
    """Fill what makes keys, if the file has the same; the names of the file's tensors that were used."""
    names = {}
    for name in file:
        for pattern, replacement in _HEADS:
            if re.match(pattern, name):
                names[re.sub(pattern, replacement, name)] = name
    tensors = {ours: file[name] for ours, name in names.items()}
    own = {
        name: x
        for name, x in encoder.state_dict().items()
        if not name.startswith("net.") and (name in tensors or not name.endswith("num_batches_tracked"))
    }
    for bias, mean in _BEFORE_NORMS.items():
        if bias in tensors and bias not in own and mean in tensors:  # ours has none, since the norm subtracts it
            tensors[mean] = tensors[mean] - tensors.pop(bias)
    if not own or {n: x.shape for n, x in tensors.items()} != {n: x.shape for n, x in own.items()}:
        return set()
    encoder.load_state_dict(tensors, strict=False)
    return set(names.values())


def _unused(rest: Iterable[str], file: Iterable[str], prefix: str) -> str:
    """Parts of the file for a log, in its order: the number of their tensors, and why they are left out."""
    rest = set(rest)
    parts = Counter(_part(name, prefix) for name in file if name in rest)
    described = []
    for part, number in parts.items():
        reason = next((text for pattern, text in _REASONS if re.search(pattern, part)), _TRAINING)
        described.append(f"{part} ({number}): {reason}")
    return "; ".join(described) or "none"


def _part(name: str, prefix: str) -> str:
    """The part of the file that a tensor is of: its name as far as the trunk's prefix goes, and one step more."""
    steps, trunk = name.split("."), prefix.split(".")
    shared = next((i for i, (a, b) in enumerate(zip(steps, trunk, strict=False)) if a != b), 0)
    return ".".join(steps[: shared + 1])
