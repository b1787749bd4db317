"""Models that people share: the file that a path, a folder or a name on the Hugging Face Hub stands for.

`SharedModel` gives a network the methods of huggingface_hub's mixin. The mixin reads nothing here: a model is
always read by `vos_umec.load`, from safetensors alone.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vos_umec.errors import CheckpointError, ConfigError, MissingDependencyError, first_sentence
from vos_umec.models.description import Description

if TYPE_CHECKING:
    from huggingface_hub import ModelHubMixin
else:
    try:
        from huggingface_hub import ModelHubMixin
    except ImportError:

        class ModelHubMixin:
            """Stands in where huggingface_hub is not installed: folders work, the Hub does not."""

            def save_pretrained(self, save_directory: str | Path) -> None:
                """Write the model into a folder."""
                self._save_pretrained(Path(save_directory))

            def push_to_hub(self, *args: Any, **kwargs: Any) -> None:
                """Say what is missing."""
                raise MissingDependencyError(f"push_to_hub {_NEEDS_HUB}")


log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
"""The model file in a folder that is shared."""

_MOST_BYTES = 16 * 2**30  # as of every file of weights, see `check_size`
_NEEDS_HUB = "needs the package huggingface_hub, which is not installed; pip install 'vos-umec[hub]'"
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
_FILES = (
    ".bin",
    ".ckpt",
    ".pt",
    ".pth",
    ".safetensors",
    ".tar",
    ".zip",
)  # a path that ends so is no name on the Hub


class SharedModel(ModelHubMixin):
    """Base of the networks: `save_pretrained`, `from_pretrained` and `push_to_hub`, as the Hub's users know them.

    Attributes:
        description: How the network was built, and how to segment with it; None for one put together by hand.
    """

    description: Description | None = None

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write model.safetensors, config.json and, unless there is one, the card README.md; the mixin calls it."""
        # Imported here, because it builds networks, and these derive from this class.
        from vos_umec.models.model_folder import write_folder

        if self.description is None:
            raise ConfigError(
                f"nothing says how to build this {type(self).__name__} again, which was put together by hand; "
                "build it with `build_network`, which takes own parts by class_path"
            )
        write_folder(self, save_directory, self.description)  # type: ignore[arg-type]  # a Module, too

    @classmethod
    def from_pretrained(  # type: ignore[override]  # without those arguments of the mixin that `load` has no use for
        cls, pretrained_model_name_or_path: str | Path, revision: str | None = None
    ) -> Self:
        """The same as `vos_umec.load`, for a network of this class.

        Args:
            pretrained_model_name_or_path: A folder, a file, or a model's name on the Hub, as "owner/name".
            revision: Of the model on the Hub: a branch, a tag or a commit.

        Raises:
            CheckpointError: As `vos_umec.load`, and if the network is of another class.
        """
        from vos_umec.models.model_file import load  # here, as above

        name = pretrained_model_name_or_path
        network = load(name if revision is None else f"{name}@{revision}")
        if not isinstance(network, cls):
            raise CheckpointError(
                f"{name} is a {type(network).__name__} and no {cls.__name__}; vos_umec.load gives either"
            )
        return network


def find_model(path: str | Path) -> Path:
    """The file of a model.

    Args:
        path: A file, which stays as it is; a folder that `save_pretrained` wrote; or, if nothing has this path, a
            model's name on the Hub, "owner/name" or "owner/name@REVISION". Of that only model.safetensors is
            fetched, once; the Hub's own cache keeps it.

    Raises:
        CheckpointError: The folder holds no model, or the Hub gives none.
        MissingDependencyError: It is a name on the Hub, and huggingface_hub is not installed.
    """
    given: Any = path  # whatever its type says
    if not isinstance(given, str | Path):
        raise CheckpointError(f"a checkpoint is named by a path; found {type(given).__name__}")
    place = Path(path)
    if place.is_dir():
        if not (place / WEIGHTS).is_file():
            raise CheckpointError(
                f"the folder {place} holds no {WEIGHTS}; give a folder that `save_pretrained` or `vos-umec export` "
                "wrote, or a .ckpt or .safetensors file"
            )
        return place / WEIGHTS
    written = path if isinstance(path, str) else path.as_posix()  # a Path has dropped the ./ of "./a/b"
    name = _NAME.fullmatch(written)
    if place.exists() or name is None or place.suffix in _FILES:
        return place
    return _download(name["repo"], name["revision"])


def _download(repo: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError(
            f"no file or folder {repo} is here, and a model of the Hugging Face Hub {_NEEDS_HUB}"
        ) from error
    log.info("no file or folder %s is here: the Hugging Face Hub is asked for it", repo)
    try:
        size = hf_hub_download(repo, WEIGHTS, revision=revision, dry_run=True).file_size
        if size is not None and size > _MOST_BYTES:
            raise CheckpointError(f"{repo} has {size} bytes, more than are read ({_MOST_BYTES}, 16 GiB)")
        return Path(hf_hub_download(repo, WEIGHTS, revision=revision))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"no file or folder {repo} is here, and the Hub cannot be reached for a model of this name; check the "
            "path, or the network"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"no file or folder {repo} is here, and the Hub gives no {WEIGHTS} of a model of this name "
            f"({first_sentence(error)}); check the path, the name, and `hf auth whoami`"
        ) from error
