"""A pretended CUDA device: `with cuda() as counts: ...` on a machine without a GPU.

Its tensors say that they are on cuda:0, hold real values on the CPU, and refuse to mix with tensors of the CPU, as
those of a GPU do. Two things are counted, with the place in the code that causes them:

* launches: operations that start a kernel or a copy. A few start several kernels (topk, the gradient of a conv), so
  a GPU launches somewhat more.
* waits: places where the host cannot go on before the device has finished all that it was given, such as `.item()`
  or indexing by a mask. Copies with `non_blocking=True` are none.

With `torch.use_deterministic_algorithms(True)`, the operations that raise on a GPU raise here, too. Values, speed
and memory are the CPU's. Run a script through `pretend.py`, which puts two small libraries before torch's own.
"""

import contextlib
import ctypes
import functools
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

CUDA = torch.device("cuda", 0)
HERE = str(Path(__file__).parent)
aten = torch.ops.aten


@dataclass
class Counts:
    """What was counted since the last `reset`."""

    launched: Counter[tuple[str, str]] = field(default_factory=Counter)  # by place and operation
    waited: Counter[tuple[str, str]] = field(default_factory=Counter)  # by place and what the host waits for

    @property
    def launches(self) -> int:
        return self.launched.total()

    @property
    def waits(self) -> int:
        return self.waited.total()

    def reset(self) -> None:
        self.launched.clear()
        self.waited.clear()

    def summary(self, most: int = 30) -> dict[str, Any]:
        """Both numbers and the places of both, the most first, as plain values."""
        by_place: Counter[str] = Counter()
        for (place, _), count in self.launched.items():
            by_place[place] += count
        return {
            "launches": self.launches,
            "waits": self.waits,
            "waited": [(f"{place} ({what})", count) for (place, what), count in self.waited.most_common(most)],
            "launched": by_place.most_common(most),
        }


COUNTS = Counts()


def _place() -> str:
    """The innermost line of the package that is running; without one, of anything but torch and these files."""
    frame, other = sys._getframe(1), None
    while frame is not None:
        file = frame.f_code.co_filename
        if "/vos_umec/" in file and not file.startswith(HERE):
            return f"{file.split('/vos_umec/')[-1]}:{frame.f_lineno}"
        if other is None and not file.startswith(HERE) and "/torch/" not in file:
            other = f"{'/'.join(Path(file).parts[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return other or "backward"  # autograd has a thread of its own for each device


def _wait(what: str) -> None:
    COUNTS.waited[_place(), what] += 1


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended device, around a real one on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor, requires_grad: bool = False):
        with _disable_current_modes():
            meta = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device="meta")
            self = torch.Tensor._make_subclass(
                cls, meta, requires_grad, dispatch_device=True, device_for_backend_keys=CUDA
            )
        object.__setattr__(self, "held", real)
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    @property
    def is_meta(self):
        return False

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, new):
        torch.Tensor.data.__set__(self, new)
        object.__setattr__(self, "held", new.held)

    def tolist(self):
        _wait("tolist")
        return self.held.tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")

    def __repr__(self, **kwargs):
        return f"pretended {self.held!r}"

    def __format__(self, spec):
        _wait("format")
        return format(self.held, spec)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copied = PretendedTensor(self.held.detach().clone(memory_format=torch.preserve_format))
            is_parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        return self.held.detach().__reduce_ex__(protocol)  # files hold tensors of the CPU


class DeviceMixError(RuntimeError):
    """Tensors of the CPU and of the device met in one operation."""


_WITHOUT_KERNEL = {
    aten.empty.memory_format, aten.empty_strided.default, aten.new_empty.default, aten.new_empty_strided.default,
    aten.empty_like.default, aten.lift_fresh.default, aten._unsafe_view.default, aten.detach.default,
    aten.resize_.default, aten.set_.source_Storage, aten._reshape_alias.default,
}  # fmt: skip
_WAITING = {
    "aten::_local_scalar_dense": "item",
    "aten::is_nonzero": "item",
    "aten::nonzero": "nonzero",
    "aten::masked_select": "masked_select",
    "aten::equal": "equal",
    "aten::_unique2": "unique",
    "aten::unique_dim": "unique",
    "aten::unique_consecutive": "unique",
    "aten::bincount": "bincount",
    "aten::_linalg_check_errors": "check of linalg",
}
_INDEXING = {"aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_PRODUCTS = {"aten::mm", "aten::bmm", "aten::convolution", "aten::convolution_backward"}
_COPIES = {"aten::copy_", "aten::_to_copy"}
_NOT_DETERMINISTIC = {  # of the list at torch.use_deterministic_algorithms, what training might use
    "aten::nll_loss2d_forward",
    "aten::nll_loss2d_backward",
    "aten::grid_sampler_2d_backward",
    "aten::upsample_bilinear2d_backward",
    "aten::upsample_bicubic2d_backward",
    "aten::_adaptive_avg_pool2d_backward",
    "aten::adaptive_max_pool2d_backward",
    "aten::reflection_pad2d_backward",
    "aten::histc",
}


def _is_pretended(x: object) -> bool:
    return isinstance(x, PretendedTensor)


def _leaves(args: Iterable[Any]) -> Iterator[Any]:
    """Arguments, and those in lists of arguments, such as `torch.cat` takes."""
    for x in args:
        if isinstance(x, list | tuple):
            yield from _leaves(x)
        else:
            yield x


def _held(x: Any) -> Any:
    """The real tensors in an argument."""
    if isinstance(x, PretendedTensor):
        return x.held
    return type(x)(map(_held, x)) if type(x) in (list, tuple) else x


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")  # inside, our tensors say meta


@functools.cache
def _makes_view(func: Any) -> bool:
    returns = func._schema.returns
    aliases = [r.alias_info for r in returns]
    return func.is_view or (bool(returns) and all(a is not None and not a.is_write for a in aliases))


@functools.cache
def _is_composite(func: Any) -> bool:
    """Whether CUDA runs it as several others. In inference mode such an operation arrives here in one piece."""
    name = func.name()
    has_kernel = functools.partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)
    return (
        func._can_decompose()
        and has_kernel("CompositeImplicitAutograd")
        and not has_kernel("CUDA")
        and not name.startswith("aten::upsample")  # its decomposition is in Python, for compilers
    )


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run one operation on the real tensors, count what a GPU would do, and wrap the result."""
    if func is torch.ops.prim.device.default:
        return CUDA
    if _is_composite(func):
        with MODE:
            return func.decompose(*args, **kwargs)
    flat = [*_leaves((*args, *kwargs.values()))]
    name, target = func._schema.name, kwargs.get("device")
    given = [x for x in flat if _is_pretended(x)]
    if name not in _COPIES and given:
        _refuse_mixed(name, [x for x in flat if isinstance(x, torch.Tensor) and not _is_pretended(x)])
    _count(func, name, args, kwargs)
    if name in _NOT_DETERMINISTIC and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(f"{name} does not have a deterministic implementation on CUDA, at {_place()}")

    real_args, real_kwargs = [*map(_held, args)], {key: _held(x) for key, x in kwargs.items()}
    if target is not None:
        real_kwargs["device"] = torch.device("cpu")
    if real_kwargs.get("pin_memory"):
        real_kwargs["pin_memory"] = False
    slow = name in _PRODUCTS and real_args[0].dtype in (torch.float16, torch.bfloat16)
    out = _in_fp32(func, *real_args, **real_kwargs) if slow else func(*real_args, **real_kwargs)
    if name == "aten::_to_copy" and out is real_args[0]:
        out = out.clone()
    stays = _is_cuda(target) if target is not None else bool(given)
    return _wrapped(func, args, kwargs, out) if stays and name != "aten::_local_scalar_dense" else out


def _in_fp32(func: Any, *args: Any, **kwargs: Any) -> Any:
    """A product of 16-bit tensors, for which many CPUs take ten times as long as in fp32."""
    kind = args[0].dtype
    if func is aten.bmm.default:  # one at a time, for less memory
        pairs = zip(*(x.split(1) for x in args), strict=True)
        return torch.cat([(a.float() @ b.float()).to(kind) for a, b in pairs])
    out = func(*(x.float() if isinstance(x, torch.Tensor) else x for x in args), **kwargs)
    return out.to(kind) if isinstance(out, torch.Tensor) else tuple(x if x is None else x.to(kind) for x in out)


def _refuse_mixed(name: str, of_cpu: Sequence[torch.Tensor]) -> None:
    for x in of_cpu:
        if x.dim() == 0:
            continue  # its value goes along as an argument of the kernel
        if name not in _INDEXING:
            raise DeviceMixError(f"{name}: found cuda:0 and cpu {tuple(x.shape)} at {_place()}")
        _wait("index from the CPU")


def _count(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Count a launch, and a wait if the host waits."""
    if not (_makes_view(func) or func in _WITHOUT_KERNEL or name.startswith(("aten::sym_", "aten::is_", "prim::"))):
        COUNTS.launched[_place(), str(func)] += 1
    if name in _WAITING:
        _wait(_WAITING[name])
    elif name in _INDEXING:
        masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
        put = args[2] if len(args) > 2 else None
        filled = put is not None and put.dim() == 0 and not _is_pretended(put)  # then it is a masked_fill
        if masks and not filled:
            _wait("mask as index")
    elif name == "aten::_to_copy" and kwargs.get("device") is not None:
        if _is_pretended(args[0]) != _is_cuda(kwargs["device"]) and not kwargs.get("non_blocking"):
            _wait("copy to the CPU" if _is_pretended(args[0]) else "copy to the device")
    elif name == "aten::copy_":
        blocks = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if _is_pretended(args[0]) != _is_pretended(args[1]) and blocks:
            _wait("copy to the device" if _is_pretended(args[0]) else "copy to the CPU")


def _wrapped(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Any:
    """Results as tensors of the device; what an operation changes in place is the argument itself."""
    schema = func._schema
    places = [(args[i] if i < len(args) else kwargs.get(a.name), a) for i, a in enumerate(schema.arguments)]
    changed = [x for x, a in places if _is_pretended(x) and a.alias_info is not None and a.alias_info.is_write]
    for x in changed:
        if x.shape != x.held.shape:
            raise NotImplementedError(f"{schema.name} changed a shape in place, which is not pretended")
    base = next((x for x, _ in places if _is_pretended(x)), None)

    def wrap(result: Any) -> Any:
        if isinstance(result, list | tuple):
            return type(result)(wrap(each) for each in result)
        if not isinstance(result, torch.Tensor) or _is_pretended(result):
            return result
        for x in changed:
            if x.held is result:
                return x
        # A view of a normal tensor is a normal tensor, in inference mode too.
        normal = _makes_view(func) and base is not None and not base.is_inference()
        with torch.inference_mode(False) if normal else contextlib.nullcontext():
            return PretendedTensor(result)

    return wrap(out)


class _Mode(TorchDispatchMode):
    """Sees the operations without a tensor argument, such as `torch.zeros(3, device="cuda")`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name in ("aten::pin_memory", "aten::_pin_memory"):
            return args[0]
        if func._schema.name == "aten::is_pinned":
            return True
        if _is_cuda(kwargs.get("device")) or any(map(_is_pretended, _leaves((*args, *kwargs.values())))):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


MODE = _Mode()


@contextlib.contextmanager
def _on_this_thread() -> Iterator[None]:
    """What each thread has of its own: the mode, and that `torch.tensor(..., device="cuda")` begins on the CPU."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with MODE:
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


@contextlib.contextmanager
def cuda(bf16: bool = True) -> Iterator[Counts]:
    """Everything inside may use the device "cuda"; gives the counts.

    Args:
        bf16: Whether the device multiplies bf16 in hardware.
    """
    torch._C._ensureCUDADeviceGuardSet()  # while torch sees no GPU: so it takes the guard that does nothing
    ctypes.c_int.in_dll(ctypes.CDLL(None), "pretended_gpus").value = 127  # as many as that guard says
    run = threading.Thread.run

    def run_with_device(thread: threading.Thread) -> None:
        with _on_this_thread():
            run(thread)

    replaced: dict[Any, dict[str, Any]] = {
        torch.cuda: {
            "is_available": lambda: True,
            "is_bf16_supported": lambda including_emulation=True: bf16,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda device=None: "a pretended GPU",
            "get_device_capability": lambda device=None: (9, 0) if bf16 else (7, 5),
            "set_device": lambda device: None,
            "synchronize": lambda device=None: _wait("synchronize"),
            "empty_cache": lambda: None,
            "get_rng_state_all": lambda: [],
            "set_rng_state_all": lambda states: None,
            "manual_seed_all": lambda seed: None,
            "_lazy_init": lambda: None,
        },
        torch.cuda.amp.common: {"amp_definitely_not_available": lambda: False},
        torch.utils._foreach_utils: {"_foreach_supported_types": [torch.Tensor, PretendedTensor]},
        sys.modules["torch.optim.optimizer"]: {"_foreach_supported_types": [nn.Parameter, PretendedTensor]},
        threading.Thread: {"run": run_with_device},
    }
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # or batch norms would be given to it
        for owner, attributes in replaced.items():
            for attribute, value in attributes.items():
                stack.enter_context(mock.patch.object(owner, attribute, value))
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a moved parameter is another object
        try:
            with _on_this_thread():
                COUNTS.reset()
                yield COUNTS
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
