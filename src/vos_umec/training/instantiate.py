"""Objects from plain values: {"class_path": ..., "init_args": {...}}, as in the YAML files."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from vos_umec.errors import ConfigError

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
