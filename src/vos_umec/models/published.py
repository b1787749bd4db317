"""ResNet files of published methods into a ResNetTrunk: CRW, VFS, DUL, MoCo, DINO, UVC, torchvision."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vos_umec.errors import CheckpointError
from vos_umec.models.resnet import ResNetTrunk
from vos_umec.models.weights import misfits, read_tensors, strip_prefix

log = logging.getLogger(__name__)

# Names inside a ResNet, where a file's differ from torchvision's.
_RENAMED = (
    (r"\b(conv\d)\.conv\.", r"\1."),  # VFS, as mmaction: a conv and its norm share a module
    (r"\bconv(\d)\.bn\.", r"bn\1."),
    (r"\bdownsample\.conv\.", "downsample.0."),
    (r"\bdownsample\.bn\.", "downsample.1."),
    (r"\b(conv\d)\.1\.(?=weight$)", r"\1."),  # CRW: padding by reflection stands before the conv
)
_COUNTER = "num_batches_tracked"  # old files lack it, and a norm with a momentum does not read it


@dataclass(frozen=True)
class PublishedWeights:
    """What became of a file's tensors.

    Attributes:
        prefix: Before the trunk's names in the file.
        loaded: The file's tensors that the trunk now holds, by their names in the file.
        unused: The file's other tensors: heads, classifiers, momentum copies, stages beyond the trunk's last one.
        missing: The trunk's tensors that the file lacks: counters that old files do not have.
    """

    prefix: str
    loaded: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]


def load_published(trunk: ResNetTrunk, path: str | Path) -> PublishedWeights:
    """Load the ResNet of a published checkpoint into a trunk.

    Takes torchvision's names under any prefix, and those of mmaction (VFS) and of convs padded by reflection (CRW;
    ours pad with zeros, which changes the border). A file of another depth or width is refused; heads and stages
    beyond the trunk are left out and listed in the log.

    Args:
        trunk: The trunk to fill.
        path: The file.

    Returns:
        Every tensor of the file and of the trunk, by what became of it.

    Raises:
        CheckpointError: If the file cannot be read, holds no ResNet, or not this one.

    Example:
        >>> import tempfile, torch
        >>> from torchvision.models import resnet18
        >>> tensors = {f"module.{name}": x for name, x in resnet18().state_dict().items()}
        >>> trunk = ResNetTrunk(blocks=(2, 2, 2), strides=(1, 2, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": tensors}, f"{folder}/a.pth")
        ...     report = load_published(trunk, f"{folder}/a.pth")
        >>> report.prefix, report.unused[-2:], report.missing
        ('module.', ('module.fc.weight', 'module.fc.bias'), ())
    """
    file = read_tensors(path)
    names = {_our_name(name): name for name in file}
    expected = trunk.state_dict()
    prefix, found = strip_prefix({name: file[full] for name, full in names.items()}, "stem.0.weight", expected)
    _check(path, found, expected)
    loaded = {name: x for name, x in found.items() if name in expected}
    trunk.load_state_dict({**expected, **loaded})
    taken = [names[prefix + name] for name in loaded]
    rest = tuple(name for name in file if name not in set(taken))
    missing = tuple(name for name in expected if name not in loaded)
    log.info("%s: %d tensors under '%s' loaded; unused: %s", path, len(taken), prefix, _groups(rest))
    if missing:
        log.info("not in %s, left as they were: %s", path, ", ".join(missing))
    return PublishedWeights(prefix, tuple(taken), rest, missing)


def _our_name(name: str) -> str:
    """A name in a ResNet file, whatever its prefix, as it is in a ResNetTrunk."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"(^|\.)layer([1-4])\.(?=\d)", lambda m: f"{m[1]}stages.{int(m[2]) - 1}.", name)
    if ".stages." in name or name.startswith("stages."):
        return name  # a block has convs and norms of its own
    return re.sub(r"(^|\.)(conv1|bn1)\.(?=\w+$)", lambda m: f"{m[1]}stem.{'01'[m[2] == 'bn1']}.", name)


def _check(path: str | Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse a file that is not of this trunk."""
    if not found:
        raise CheckpointError(
            f"{path} holds no ResNet: no tensor is named conv1.weight under any prefix; give a file of a "
            "torchvision-style ResNet, or use TimmEncoder for other networks"
        )
    stages = 1 + max(int(name.split(".")[1]) for name in expected if name.startswith("stages."))
    own = tuple(f"stages.{i}." for i in range(stages))
    held = {name: x for name, x in found.items() if name in expected or name.startswith(own)}
    needed = {name: x for name, x in expected.items() if name in found or not name.endswith(_COUNTER)}
    problems = misfits(held, needed)
    if problems:
        raise CheckpointError(
            f"{path} is a ResNet of another depth or width than this encoder: {', '.join(problems)}; "
            "give the encoder the file's blocks and bottleneck"
        )


def _groups(names: tuple[str, ...]) -> str:
    """Names for a log: modules with the number of their tensors."""
    modules = Counter(re.split(r"\.\d+\.|\.(?=\w+$)", name)[0] for name in names)
    return ", ".join(f"{module} ({number})" for module, number in modules.items()) or "none"
