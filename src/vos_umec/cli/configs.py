"""Where the configurations lie: beside the checkout's sources, or inside the installed package."""

from importlib.resources import files
from pathlib import Path

from vos_umec.errors import ConfigError


def find_config(value: str) -> Path:
    """The file a `--config` names; a bare name or `configs/NAME` that is not here means the one that came along.

    Args:
        value: A path, or the name of a shipped configuration.

    Raises:
        ConfigError: If neither exists.

    Example:
        >>> find_config("configs/quickstart.yaml").name
        'quickstart.yaml'
    """
    path = Path(value)
    if path.is_file():
        return path
    package = Path(str(files("vos_umec")))
    for folder in (package / "configs", package.parents[1] / "configs"):  # a wheel; an editable checkout
        if path.parent.as_posix() in (".", "configs") and (folder / path.name).is_file():
            return folder / path.name
    raise ConfigError(f"no configuration file {value}; give a file, or one of: {', '.join(_shipped(package))}")


def _shipped(package: Path) -> list[str]:
    folders = (package / "configs", package.parents[1] / "configs")
    return sorted(path.name for folder in folders for path in folder.glob("*.yaml"))
