"""What the pretended device counts and refuses, one operation at a time: the rules that all else is judged by."""

from collections.abc import Callable

import torch
from pretended_device import cuda
from torch import Tensor

Call = Callable[[Tensor, Tensor], object]
"""An operation with x (3, 3) and a mask (3, 3) bool of the device."""

WAITING: dict[str, Call] = {
    "item": lambda x, mask: x.sum().item(),
    "bool": lambda x, mask: bool(mask.any()),
    "tolist": lambda x, mask: x.tolist(),
    "copy to the CPU": lambda x, mask: x.cpu(),
    "copy to the device": lambda x, mask: torch.ones(3).to("cuda"),
    "tensor of numbers": lambda x, mask: torch.tensor([1.0, 2.0], device="cuda"),
    "new_tensor": lambda x, mask: x.new_tensor([1.0, 2.0]),
    "mask as index": lambda x, mask: x[mask],
    "list as index": lambda x, mask: x[[0, 2]],
    "nonzero": lambda x, mask: mask.nonzero(),
    "inverse": lambda x, mask: torch.linalg.inv(x),
    "unique": lambda x, mask: x.unique(),
    "written from the CPU": lambda x, mask: x.copy_(torch.ones(3, 3)),
}
FREE: dict[str, Call] = {
    "copy that does not block": lambda x, mask: torch.ones(3).to("cuda", non_blocking=True),
    "made there": lambda x, mask: torch.rand(3, device="cuda") + torch.arange(3, device="cuda"),
    "number as argument": lambda x, mask: x * 2 + torch.tensor(1.0),
    "masked by where": lambda x, mask: torch.where(mask, x, 0.0),
    "a number written by a mask": lambda x, mask: x.__setitem__(mask, 0.0),
    "tensor of the device as index": lambda x, mask: x[torch.arange(2, device="cuda")],
    "slice": lambda x, mask: x[1:, :2].T,
    "gradient": lambda x, mask: (x.clone().requires_grad_() @ x).sum().backward(),
    "inference mode": torch.inference_mode()(lambda x, mask: torch.nn.functional.softmax(x, dim=0).view(9)[None]),
}
REFUSED: dict[str, Call] = {
    "DeviceMixError": lambda x, mask: x + torch.ones(3),
    "TypeError": lambda x, mask: x.numpy(),
    "RuntimeError": lambda x, mask: torch.nn.functional.cross_entropy(x[None, ..., None], mask.long()[:1, :, None]),
}


def measure() -> list[dict[str, object]]:
    """A row for each operation; "error" is the kind of error that it raised."""
    rows = []
    with cuda() as counts:
        for kind, calls in (("waits", WAITING), ("free", FREE), ("refused", REFUSED)):
            torch.use_deterministic_algorithms(kind == "refused")
            for name, call in calls.items():
                x, mask = torch.eye(3).to("cuda"), torch.eye(3).to("cuda") > 0
                error = None
                counts.reset()
                try:
                    call(x, mask)
                except Exception as raised:
                    error = type(raised).__name__
                rows.append({"name": f"{kind}: {name}", "error": error} | counts.summary())
    return rows
