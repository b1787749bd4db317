"""Tensors of files: read without running any code in them, compared with a network's, loaded into it."""

import argparse
import pickle
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from vos_umec.errors import CheckpointError, first_sentence

_CONTAINERS = ("teacher", "state_dict", "model")  # where training codes keep their tensors; of DINO, the teacher's
# What published files hold beside tensors: DINO's arguments, and scores that are numpy scalars.
_PLAIN: list[Any] = [argparse.Namespace, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
_MOST_BYTES, _MOST_HEADER = 16 * 2**30, 16 * 2**20  # of files of weights, and of the header of a safetensors file
# What torch.load, json and safetensors raise of broken and hostile files.
BROKEN = (pickle.UnpicklingError, EOFError, RuntimeError, OSError, AttributeError, LookupError, TypeError,
          ValueError, MemoryError, OverflowError, struct.error)  # fmt: skip
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since numpy 2


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint, on the CPU, without running any code of the file.

    Args:
        path: A file of torch.save, its tensors at the top or under "teacher", "state_dict" or "model", or a
            .safetensors file.

    Returns:
        Tensors by their full names.

    Raises:
        CheckpointError: If the file is missing, cannot be read safely, or holds no tensors by name.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no weights at {path}; give a file of a state dictionary")
    check_size(path)
    if Path(path).suffix == ".safetensors":
        return _read_safetensors(path)
    scalar: Any = np.float64(0).__reduce__()[0]
    try:
        with torch.serialization.safe_globals([*_PLAIN, *((scalar, name) for name in _SCALARS)]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise CheckpointError(
            f"cannot read weights from {path}: {first_sentence(error)}; save a plain state dictionary"
        ) from error
    held = found if isinstance(found, dict) else {}
    inner = next((held[name] for name in _CONTAINERS if isinstance(held.get(name), Mapping)), held)
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors by name, but {', '.join(map(str, held)) or type(found).__name__}; expected a "
            f"state dictionary, at the top or under one of {', '.join(_CONTAINERS)}"
        )
    return tensors


def check_size(path: str | Path) -> None:
    """Refuse a file of weights that would take far more memory than a network, before anything of it is read.

    A few bytes may state gigabytes: in the length of a safetensors file's header, or in parts of a zip (which is
    what torch.save writes) that are compressed, as torch.save never does.

    Raises:
        CheckpointError: The file has more than 16 GiB, the header of a safetensors file more than 16 MiB, or a part
            of a zip is compressed.
    """
    path = Path(path)
    length = path.stat().st_size
    if length > _MOST_BYTES:
        raise CheckpointError(f"{path} has {length} bytes, more than are read ({_MOST_BYTES}, 16 GiB)")
    with path.open("rb") as file:
        begin = file.read(8)
        if path.suffix == ".safetensors":
            header = int.from_bytes(begin, "little")
            if header > _MOST_HEADER:
                raise CheckpointError(f"the header of {path} states {header} bytes, more than are read (16 MiB)")
        elif begin.startswith(b"PK"):
            try:
                packed = [part.filename for part in ZipFile(file).infolist() if part.compress_type != ZIP_STORED]
            except (BadZipFile, ValueError, OSError) as error:
                raise CheckpointError(f"cannot read weights from {path}: {error}; the file is broken") from error
            if packed:
                raise CheckpointError(f"{path} holds the compressed part {packed[0]}, as torch.save never writes")


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (SafetensorError, *BROKEN) as error:
        raise CheckpointError(f"cannot read weights from {path}: {error}; save the file again") from error


def strip_prefix(
    tensors: Mapping[str, Tensor], anchor: str, names: Collection[str]
) -> tuple[str, dict[str, Tensor]]:
    """The part of a checkpoint that is the trunk, by the prefix under which most of its tensors are.

    "module." of DataParallel, "encoder_q." of MoCo, "backbone." of mmaction and so on need no list. Of prefixes
    that hold as much (MoCo's two encoders) the first in the file counts, which is the trained one.

    Args:
        tensors: Tensors by their full names.
        anchor: Name of one tensor that every trunk of this kind has.
        names: Names of all of the trunk's tensors.

    Returns:
        The prefix, and the tensors under it by what remains of their names; none if nothing is named `anchor`.

    Example:
        >>> w = torch.zeros(1)
        >>> prefix, trunk = strip_prefix({"fc.w": w, "net.a.w": w, "net.b.w": w}, "a.w", ["a.w", "b.w"])
        >>> prefix, sorted(trunk)
        ('net.', ['a.w', 'b.w'])
    """
    prefixes = [name.removesuffix(anchor) for name in tensors if name == anchor or name.endswith(f".{anchor}")]
    if not prefixes:
        return "", {}
    prefix = max(prefixes, key=lambda p: sum(p + name in tensors for name in names))  # the first of the best
    return prefix, {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor], problem: str, advice: str) -> list[str]:
    """Load published tensors into a network. Counters of batch norms may be missing, as in old files.

    Args:
        net: The network; it changes only if all fits.
        tensors: The tensors by the network's names.
        problem: First part of the message where they do not fit.
        advice: Last part of it.

    Returns:
        The names of the counters that are missing and stay as they were.

    Raises:
        CheckpointError: If names or shapes differ.
    """
    own = net.state_dict()
    missing = [name for name in own if name not in tensors and name.endswith("num_batches_tracked")]
    check_fits(tensors, {name: x for name, x in own.items() if name not in missing}, problem, advice)
    net.load_state_dict({**own, **tensors})
    return missing


def check_fits(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    problem: str = "the checkpoint is of another network",
    advice: str = "use the settings it was trained with, or another checkpoint",
) -> None:
    """Compare a checkpoint's tensors with a module's.

    Args:
        found: The checkpoint's state dictionary.
        expected: The module's own.
        problem: First part of the message.
        advice: Last part of the message.

    Raises:
        CheckpointError: If names or shapes differ, with an example of each kind.

    Example:
        >>> check_fits({"w": torch.zeros(2)}, {"w": torch.zeros(3)})
        Traceback (most recent call last):
        vos_umec.errors.CheckpointError: the checkpoint is of another network: 1 tensors of another shape \
(w is [2], expected [3]); use the settings it was trained with, or another checkpoint
    """
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    changed = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    kinds = []
    if missing:
        kinds.append(f"{len(missing)} tensors missing (such as {missing[0]})")
    if surplus:
        kinds.append(f"{len(surplus)} tensors too many (such as {surplus[0]})")
    if changed:
        name = changed[0]
        kinds.append(
            f"{len(changed)} tensors of another shape ({name} is {list(found[name].shape)}, "
            f"expected {list(expected[name].shape)})"
        )
    if kinds:
        raise CheckpointError(f"{problem}: {', '.join(kinds)}; {advice}")
