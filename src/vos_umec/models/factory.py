"""Networks from plain values: a preset's name, changes to it, or other classes by class_path."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from vos_umec.errors import ConfigError
from vos_umec.models.decoder import Decoder
from vos_umec.models.description import Description, NetworkSpec
from vos_umec.models.encoder import Encoder, ResNetEncoder
from vos_umec.models.mask_encoder import MaskEncoder
from vos_umec.models.resnet import checkpoint_blocks
from vos_umec.models.umec import UMEC, PropagationNetwork


@dataclass(frozen=True)
class NetworkSettings:
    """The keys of a network's mapping, see `build_network`; with them, YAML files can change single keys.

    Attributes:
        preset: "resnet18", "resnet50", "compact" or "tiny"; None for an encoder alone.
        encoder: Arguments of E that differ from the preset's, or another class.
        mask_encoder: The same for V.
        decoder: The same for D.
        tau: Temperature of the affinity, above 0.
        gradient_checkpointing: Compute activations of ResNet trunks again in the backward pass, for less memory
            and more time.
    """

    preset: str | None = None
    encoder: dict[str, Any] | None = None
    mask_encoder: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None
    tau: float = 0.05
    gradient_checkpointing: bool = False


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
    # Three narrow stages at s = 4 in Lab, and a decoder with a stage at full resolution; 0.67 M parameters. It
    # trains to a useful model on a CPU.
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
        "decoder": {"dims": (64, 32, 32), "image_dim": 16, "evidence": True, "residual": True},
    },
    # Two stages at s = 4 for tests and small clips; 0.7 M parameters.
    "tiny": {
        "encoder": {"blocks": (1, 1), "strides": (1, 1), "key_dim": 64},
        "mask_encoder": {"blocks": (1,), "strides": (1,), "mask_dim": 48},
        "decoder": {"dims": (48, 48, 48), "residual": True},
    },
}

_T = TypeVar("_T")


def build_network(spec: NetworkSpec) -> PropagationNetwork:
    """Build a randomly initialised network.

    Args:
        spec: One of

            * a preset's name: "resnet18", "resnet50", "compact" or "tiny";
            * a mapping of changes to a preset, as `{"preset": "compact", "encoder": {"key_dim": 32}}`, whose
              keys are those of `NetworkSettings`. A part may be another class, `{"class_path": ...,
              "init_args": {...}}`, which derives from Encoder, MaskEncoder or Decoder;
            * `{"encoder": {"class_path": ...}}` without a preset: an encoder alone, for label propagation;
            * `{"class_path": ..., "init_args": {...}}`: a network class that derives from PropagationNetwork.

    Returns:
        A UMEC, with widths of V and D fitted to E's, or a PropagationNetwork for an encoder alone.

    Raises:
        ConfigError: If a name, a part or an argument is unknown, or the parts do not fit each other.

    Example:
        >>> build_network({"preset": "tiny", "encoder": {"strides": (1, 2)}, "mask_encoder": {"blocks": (1, 1),
        ...     "strides": (1, 2)}}).stride
        8
    """
    mapping: Mapping[str, Any] = {"preset": spec} if isinstance(spec, str) else spec
    settings = {key: value for key, value in mapping.items() if value is not None}
    if "class_path" in settings:
        network = instantiate(settings, PropagationNetwork)
        network.description = Description(spec)
        return network
    preset = settings.pop("preset", None)
    tau, checkpointing = settings.pop("tau", 0.05), settings.pop("gradient_checkpointing", False)
    if not (isinstance(tau, int | float) and tau > 0):
        raise ConfigError(f"tau, the temperature of the affinity, must be above 0; found {tau}")
    if unknown := settings.keys() - {"encoder", "mask_encoder", "decoder"}:
        known = ", ".join(field.name for field in fields(NetworkSettings))
        raise ConfigError(f"a network has no key {sorted(unknown)}; its keys are {known}")
    if preset is None:
        network = _encoder_alone(settings, tau)
    elif preset in PRESETS:
        network = _whole_network(preset, settings, tau)
    else:
        raise ConfigError(f"unknown network '{preset}'; the presets are {', '.join(PRESETS)}")
    if checkpointing:
        checkpoint_blocks(network)
    network.description = Description(spec)
    return network


def _encoder_alone(settings: Mapping[str, Any], tau: float) -> PropagationNetwork:
    if settings.keys() != {"encoder"} or "class_path" not in settings["encoder"]:
        raise ConfigError(
            "a network without a preset is one encoder by its class, {encoder: {class_path: "
            f"vos_umec.TrunkEncoder}}}}; found {dict(settings)}"
        )
    encoder = _part(settings["encoder"], Encoder)  # type: ignore[type-abstract]  # a bound for issubclass
    return PropagationNetwork(encoder, tau)


def _whole_network(preset: str, settings: Mapping[str, Any], tau: float) -> UMEC:
    parts = {name: {**PRESETS[preset][name], **settings.get(name, {})} for name in PRESETS[preset]}
    parts = {name: settings[name] if "class_path" in parts[name] else parts[name] for name in parts}
    encoder = _part(parts["encoder"], Encoder, ResNetEncoder)  # type: ignore[type-abstract]
    mask_encoder = _part(parts["mask_encoder"], MaskEncoder, trunk_dim=encoder.trunk_dim)
    if encoder.stride != mask_encoder.stride:
        raise ConfigError(
            f"the encoder has stride {encoder.stride} and the frame-mask encoder {mask_encoder.stride}; "
            "change the strides of one so that they agree"
        )
    decoder = _part(parts["decoder"], Decoder, mask_dim=mask_encoder.mask_dim, skip_dims=encoder.skip_dims)
    return UMEC(encoder, mask_encoder, decoder, tau)


def _part(settings: Mapping[str, Any], base: type[_T], default: type[_T] | None = None, **offered: Any) -> _T:
    """A part by its class, or of the default class by its arguments."""
    if "class_path" in settings:
        return instantiate(settings, base, **offered)
    return _construct(default or base, {**offered, **settings})


def instantiate(spec: Mapping[str, Any], base: type[_T], **offered: Any) -> _T:
    """Build the object that a class_path mapping describes.

    Args:
        spec: "class_path", the full name of a class, and optionally "init_args", its arguments.
        base: What the class must derive from.
        **offered: Arguments for a class that takes them, unless the mapping gives them.

    Returns:
        An instance.

    Raises:
        ConfigError: If a key, the class or an argument is unknown, or the class is not a `base`.
    """
    path = spec.get("class_path")
    if not isinstance(path, str) or (unknown := set(spec) - {"class_path", "init_args"}):
        raise ConfigError(
            f"expected a mapping with 'class_path' and optionally 'init_args'; found {dict(spec)}"
            + (f" with unknown keys {sorted(unknown)}" if isinstance(path, str) else "")
        )
    cls = import_class(path, base)
    known = inspect.signature(cls).parameters
    fitting = {key: value for key, value in offered.items() if key in known}
    return _construct(cls, {**fitting, **(spec.get("init_args") or {})})


def _construct(cls: type[_T], arguments: Mapping[str, Any]) -> _T:
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{cls.__name__} cannot be built with {dict(arguments)}: {error}; its arguments are: "
            f"{', '.join(inspect.signature(cls).parameters)}"
        ) from error


def import_class(path: str, base: type[_T]) -> type[_T]:
    """The class of a full name.

    Args:
        path: The name of its module, a dot, and its own.
        base: What it must derive from.

    Raises:
        ConfigError: If there is no such class, or it is not a `base`.
    """
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"class_path '{path}' names no class that can be imported: {error}; run from the folder of its "
            "module, or put that folder on PYTHONPATH"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"class_path '{path}' must name a subclass of {base.__name__}")
    return cls
