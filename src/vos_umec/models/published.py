"""ResNet files of published methods into a ResNetTrunk: CRW, VFS, DUL, MoCo, DINO, UVC, torchvision."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vos_umec.errors import CheckpointError
from vos_umec.models.resnet import ResNetTrunk
from vos_umec.models.weights import load_tensors, read_tensors, strip_prefix

log = logging.getLogger(__name__)

# Names inside a ResNet, where a file's differ from torchvision's.
_RENAMED = (
    (r"\b(conv\d)\.conv\.", r"\1."),  # VFS, as mmaction: a conv and its norm share a module
    (r"\bconv(\d)\.bn\.", r"bn\1."),
    (r"\bdownsample\.conv\.", "downsample.0."),
    (r"\bdownsample\.bn\.", "downsample.1."),
    (r"\b(conv\d)\.1\.(?=weight$)", r"\1."),  # CRW: padding by reflection stands before the conv
)


def load_published(trunk: ResNetTrunk, path: str | Path) -> None:
    """Load the ResNet of a published checkpoint into a trunk.

    Takes torchvision's names under any prefix, and those of mmaction (VFS) and of convs padded by reflection (CRW;
    ours pad with zeros, which changes the border). A file of another depth or width is refused; heads and stages
    beyond the trunk are left out and listed in the log.

    Args:
        trunk: The trunk to fill.
        path: The file.

    Raises:
        CheckpointError: If the file cannot be read, holds no ResNet, or not this one.
    """
    file = read_tensors(path)
    names = {_our_name(name): name for name in file}
    expected = trunk.state_dict()
    prefix, found = strip_prefix({name: file[full] for name, full in names.items()}, "stem.0.weight", expected)
    if not found:
        raise CheckpointError(
            f"{path} holds no ResNet: no tensor is named conv1.weight under any prefix; give a file of a "
            "torchvision-style ResNet, or use TimmEncoder for other networks"
        )
    # Of the trunk's own stages the file must not hold more than the trunk; stages after the last one may.
    stages = tuple(f"stages.{i}." for i in range(len(trunk.stages)))
    missing = load_tensors(
        trunk,
        {name: x for name, x in found.items() if name in expected or name.startswith(stages)},
        problem=f"{path} is a ResNet of another depth or width than this encoder",
        advice="give the encoder the file's blocks and bottleneck",
    )
    taken = {names[prefix + name] for name in found if name in expected}
    rest = [name for name in file if name not in taken]
    log.info("%s: %d tensors under '%s' loaded; unused: %s", path, len(taken), prefix, _groups(rest))
    if missing:
        log.info("not in %s, left as they were: %s", path, ", ".join(missing))


def _our_name(name: str) -> str:
    """A name in a ResNet file, whatever its prefix, as it is in a ResNetTrunk."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"(^|\.)layer([1-4])\.(?=\d)", lambda m: f"{m[1]}stages.{int(m[2]) - 1}.", name)
    if ".stages." in name or name.startswith("stages."):
        return name  # a block has convs and norms of its own
    return re.sub(r"(^|\.)(conv1|bn1)\.(?=\w+$)", lambda m: f"{m[1]}stem.{'01'[m[2] == 'bn1']}.", name)


def _groups(names: Sequence[str]) -> str:
    """Names for a log: modules with the number of their tensors."""
    modules = Counter(re.split(r"\.\d+\.|\.(?=\w+$)", name)[0] for name in names)
    return ", ".join(f"{module} ({number})" for module, number in modules.items()) or "none"
