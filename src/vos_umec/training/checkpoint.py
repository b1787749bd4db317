"""The module of a checkpoint or a model file, to train on or to score."""

from pathlib import Path
from typing import Any

from vos_umec.errors import CheckpointError, ConfigError, first_sentence
from vos_umec.models.factory import import_class
from vos_umec.models.model_file import SUFFIX, load_own_weights, read_description
from vos_umec.shipped import SHIPPED
from vos_umec.training.module import UMECModule


def load_module(path: str | Path = SHIPPED) -> UMECModule:
    """The module of a checkpoint or a model file, with its settings, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint that training wrote, or a model file; without one, the model of this package.

    Raises:
        CheckpointError: If the file is missing, is neither of the two, or holds another network.

    Example:
        >>> load_module().hparams["evaluation"]["segmenter"]["short_side"]
        360
    """
    description = read_description(path)
    if Path(path).suffix == SUFFIX:
        settings: dict[str, Any] = {
            "network": description.network,
            "evaluation": {"segmenter": description.segmenter},
        }
        module = UMECModule(**settings)
        load_own_weights(module.network, path)
        module.started_from = description.started_from
        return module.eval()
    try:
        cls = import_class(str(description.module_class), UMECModule)
    except ConfigError as error:
        raise CheckpointError(
            f"{path} was written by a class of your own: {error}; run from the folder of its module, or load it "
            "with load_from_checkpoint of that class"
        ) from error
    try:
        return cls.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} does not load as {cls.__name__}: {first_sentence(error)}") from error
