"""Where the configurations lie: beside the checkout's sources, or inside the installed package."""

from importlib.resources import files
from pathlib import Path

from vos_umec.errors import ConfigError


def find_config(value: str) -> Path:
    """The file a `--config` names; `NAME` or `configs/NAME` that is not here means the one that came along.

    Args:
        value: A path, or the name of a shipped configuration with its sub-folder, as "schemas/photometric.yaml".

    Raises:
        ConfigError: If neither exists.

    Example:
        >>> find_config("configs/quickstart.yaml").name
        'quickstart.yaml'
        >>> find_config("schemas/photometric.yaml").parent.name
        'schemas'
    """
    path = Path(value)
    if path.is_file():
        return path
    shipped = _shipped()
    name = path.as_posix().removeprefix("configs/")
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"no configuration file {value}; give a file, or one of: {', '.join(sorted(shipped))}")


def _shipped() -> dict[str, Path]:
    """The configurations that came along, by their path below configs/."""
    package = Path(str(files("vos_umec")))
    folders = (package.parents[1] / "configs", package / "configs")  # an editable checkout; a wheel
    return {path.relative_to(f).as_posix(): path for f in folders for path in f.rglob("*.yaml")}
