"""Calls made inside some work, recorded once and done again alone: forward, and backward with their gradients."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

Place = tuple[Any, str]
"""Whose attribute a function is, and its name."""


@dataclasses.dataclass
class Call:
    """One call: what it was given, whether gradients were on, and the gradients that its outputs came to have."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    with_gradients: bool
    gradients: dict[int, Tensor] = dataclasses.field(default_factory=dict)


class Replay:
    """Calls that can be made again alone.

    Args:
        calls: The calls.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls

    def __call__(self) -> None:
        """Make them all again: forward in their order, then one backward pass."""
        outputs, slopes = [], []
        for call in self.calls:
            with torch.set_grad_enabled(call.with_gradients):
                found = tensors(call.function(*call.inputs))
            outputs += [found[place] for place in call.gradients]
            slopes += call.gradients.values()
        if outputs:
            torch.autograd.backward(outputs, slopes)
        for call in self.calls:
            for x in tensors(call.inputs):
                x.grad = None


def record(places: Mapping[str, Sequence[Place]], work: Callable[[], Any]) -> dict[str, Replay]:
    """Record the calls of some functions while a piece of work runs, and a backward pass through them.

    Args:
        places: The functions, in groups.
        work: What calls them.

    Returns:
        The calls of each group.
    """
    calls: dict[str, list[Call]] = {name: [] for name in places}
    every = [(name, owner, attribute) for name, group in places.items() for owner, attribute in group]
    before = [vars(owner).get(attribute) for _, owner, attribute in every]
    for name, owner, attribute in every:
        setattr(owner, attribute, recorder(getattr(owner, attribute), calls[name]))
    try:
        work()
    finally:
        for (_, owner, attribute), own in zip(every, before, strict=True):
            if own is None:
                delattr(owner, attribute)  # it was the class's
            else:
                setattr(owner, attribute, own)
    return {name: Replay(group) for name, group in calls.items()}


def recorder(function: Callable[..., Any], calls: list[Call]) -> Callable[..., Any]:
    """The function, with its calls noted."""

    def noted(*inputs: Any, **options: Any) -> Any:
        found = function(*inputs, **options)
        kept = {name: copied(value) for name, value in options.items()}
        call = Call(partial(function, **kept), copied(inputs), torch.is_grad_enabled())
        for place, x in enumerate(tensors(found)):
            if x.requires_grad:
                x.register_hook(partial(note, call.gradients, place))
        calls.append(call)
        return found

    return noted


def note(gradients: dict[int, Tensor], place: int, gradient: Tensor) -> None:
    """Keep the gradient of one output."""
    gradients[place] = gradient.detach().clone()


def tensors(x: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dataclasses, in order."""
    if isinstance(x, Tensor):
        return [x]
    return [tensor for part in parts(x).values() for tensor in tensors(part)]


def copied(x: Any) -> Any:
    """The same with copies of the tensors, cut off from what made them; gradients are wanted where they were."""
    if isinstance(x, Tensor):
        return x.detach().clone().requires_grad_(x.requires_grad)
    if isinstance(x, tuple | list):
        return type(x)(copied(part) for part in x)
    return dataclasses.replace(x, **{name: copied(part) for name, part in parts(x).items()}) if parts(x) else x


def parts(x: Any) -> dict[str, Any]:
    """What a tuple, a list or a dataclass holds."""
    if isinstance(x, tuple | list):
        return {str(place): part for place, part in enumerate(x)}
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {field.name: getattr(x, field.name) for field in dataclasses.fields(x)}
    return {}
