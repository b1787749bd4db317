"""Whether a checkpoint's tensors are those of a module."""

from collections.abc import Mapping

from torch import Tensor

from vos_umec.errors import CheckpointError


def check_fits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare a checkpoint's tensors with a module's.

    Args:
        found: The checkpoint's state dictionary.
        expected: The module's own.

    Raises:
        CheckpointError: If names or shapes differ, with an example of each kind.

    Example:
        >>> import torch
        >>> check_fits({"w": torch.zeros(2)}, {"w": torch.zeros(3)})
        Traceback (most recent call last):
        vos_umec.errors.CheckpointError: the checkpoint is of another network: 1 tensors of another shape \
(w is [2], expected [3]); use the settings it was trained with, or another checkpoint
    """
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    changed = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors missing (such as {missing[0]})")
    if surplus:
        problems.append(f"{len(surplus)} tensors too many (such as {surplus[0]})")
    if changed:
        name = changed[0]
        problems.append(
            f"{len(changed)} tensors of another shape ({name} is {list(found[name].shape)}, "
            f"expected {list(expected[name].shape)})"
        )
    if problems:
        raise CheckpointError(
            f"the checkpoint is of another network: {', '.join(problems)}; "
            "use the settings it was trained with, or another checkpoint"
        )
