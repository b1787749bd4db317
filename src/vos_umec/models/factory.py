"""Objects from plain values: {"class_path": ..., "init_args": {...}}, as in the YAML files."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from vos_umec.errors import ConfigError
from vos_umec.models.decoder import Decoder
from vos_umec.models.encoder import Encoder
from vos_umec.models.mask_encoder import MaskEncoder
from vos_umec.models.umec import UMEC

_T = TypeVar("_T")


def instantiate(spec: Mapping[str, Any], base: type[_T], **offered: Any) -> _T:
    """Build the object that a class_path dictionary describes.

    A module keeps such dictionaries as hyperparameters, so that its checkpoints hold plain values only and load
    under `weights_only=True`, from a notebook as from the command line.

    Args:
        spec: "class_path", the full name of a class, and optionally "init_args", its arguments.
        base: What the class must derive from.
        **offered: Arguments for a class that takes them, unless the dictionary gives them.

    Returns:
        An instance.

    Raises:
        ConfigError: If a key, the class or an argument is unknown, or the class is not a `base`.

    Example:
        >>> instantiate({"class_path": "collections.Counter", "init_args": {"a": 2}}, dict)
        Counter({'a': 2})
    """
    path = spec.get("class_path")
    if not isinstance(path, str) or (unknown := set(spec) - {"class_path", "init_args"}):
        raise ConfigError(
            f"expected a dictionary with 'class_path' and optionally 'init_args'; found {dict(spec)}"
            + (f" with unknown keys {sorted(unknown)}" if isinstance(path, str) else "")
        )
    cls = import_class(path, base)
    known = inspect.signature(cls).parameters
    arguments = {key: value for key, value in offered.items() if key in known} | (spec.get("init_args") or {})
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{cls.__name__} cannot be built: {error}; its arguments are: {', '.join(known)}"
        ) from error


def import_class(path: str, base: type[_T]) -> type[_T]:
    """The class of a full name.

    Args:
        path: The name of its module, a dot, and its own.
        base: What it must derive from.

    Raises:
        ConfigError: If there is no such class, or it is not a `base`.

    Example:
        >>> import_class("collections.Counter", dict)
        <class 'collections.Counter'>
    """
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"class_path '{path}' names no class that can be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"class_path '{path}' must name a subclass of {base.__name__}")
    return cls


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # UMEC section 2: all four stages, the last two at stride 1, s = 8, 512 channels.
    "resnet18": {
        "encoder": {"blocks": (2, 2, 2, 2), "strides": (1, 2, 1, 1)},
        "mask_encoder": {"blocks": (2, 2, 2), "strides": (1, 2, 1)},
        "decoder": {},
    },
    # Cut after stage 3, its stride 1, s = 8, reduced from 1024 to 512 channels.
    "resnet50": {
        "encoder": {"blocks": (3, 4, 6), "strides": (1, 2, 1), "bottleneck": True, "trunk_dim": 512},
        "mask_encoder": {"blocks": (3, 4, 6), "strides": (1, 2, 1), "bottleneck": True},
        "decoder": {},
    },
    # Three narrow stages at s = 4 in Lab, and a decoder that sees the frame itself: what trains to something of use
    # on a CPU; 0.67 M parameters.
    "compact": {
        "encoder": {
            "blocks": (1, 1, 1),
            "strides": (1, 2, 1),
            "key_dim": 64,
            "width": 32,
            "pool": False,
            "color": "lab",
        },
        "mask_encoder": {
            "blocks": (1, 1),
            "strides": (1, 2),
            "mask_dim": 48,
            "width": 24,
            "pool": False,
            "batch_norm": False,
        },
        "decoder": {"dims": (64, 32, 32), "image_dim": 16, "residual": True},
    },
    # Two stages at s = 4 for CPUs, tests and small clips; 0.7 M parameters.
    "tiny": {
        "encoder": {"blocks": (1, 1), "strides": (1, 1), "key_dim": 64},
        "mask_encoder": {"blocks": (1,), "strides": (1,), "mask_dim": 48},
        "decoder": {"dims": (48, 48, 48), "residual": True},
    },
}


def network_from_preset(
    preset: str, tau: float = 0.05, own_encoder: Encoder | None = None, **changes: Mapping[str, Any]
) -> UMEC:
    """Build a randomly initialised network.

    Args:
        preset: "resnet18", "resnet50", "compact" or "tiny".
        tau: Temperature of the affinity.
        own_encoder: E in place of the preset's: any module with Encoder's attributes, two skips and a stride that V
            of this preset can be given.
        **changes: Arguments of Encoder, MaskEncoder or Decoder that differ from the preset's, as
            `encoder={"key_dim": 32}`.

    Returns:
        The network, with V's and D's widths fitted to E's.

    Raises:
        ConfigError: If the preset, a part or an argument is unknown.

    Example:
        >>> network_from_preset("tiny", encoder={"strides": (1, 2)}, mask_encoder={"blocks": (1, 1),
        ...     "strides": (1, 2)}).stride
        8
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown network '{preset}'; the presets are {', '.join(PRESETS)}")
    if unknown := changes.keys() - PRESETS[preset].keys():
        raise ConfigError(f"unknown part {sorted(unknown)} of a network; the parts are {list(PRESETS[preset])}")
    settings = {part: {**values, **changes.get(part, {})} for part, values in PRESETS[preset].items()}
    try:
        encoder = own_encoder or Encoder(**settings["encoder"])
        mask_encoder = MaskEncoder(trunk_dim=encoder.trunk_dim, **settings["mask_encoder"])
        decoder = Decoder(mask_encoder.mask_dim, encoder.skip_dims, **settings["decoder"])
    except TypeError as error:
        raise ConfigError(f"network '{preset}' cannot be built with {dict(changes)}: {error}") from error
    if encoder.stride != mask_encoder.stride:
        raise ConfigError(
            f"the encoder has stride {encoder.stride} and the frame-mask encoder {mask_encoder.stride}; "
            "change the strides of one so that they agree"
        )
    return UMEC(encoder, mask_encoder, decoder, tau)
