"""The module of a checkpoint or a model file, to train on or to score."""

from pathlib import Path
from typing import Any

from vos_umec.errors import CheckpointError, first_sentence
from vos_umec.models.hub import find_model
from vos_umec.models.model_file import SUFFIX, import_module_class, load_own_weights, read_description
from vos_umec.shipped import SHIPPED
from vos_umec.training.module import UMECModule


def load_module(path: str | Path = SHIPPED) -> UMECModule:
    """The module of a checkpoint or a model file, with its settings, on the CPU and in evaluation mode.

    Args:
        path: A file, a folder or a name on the Hub, as for `vos_umec.load`; without one, the model of this package.

    Raises:
        CheckpointError: If the file is missing, is neither of the two, or holds another network.
    """
    path = find_model(path)
    description = read_description(path)
    if Path(path).suffix == SUFFIX:
        settings: dict[str, Any] = {
            "network": description.network,
            "evaluation": {"segmenter": description.segmenter},
        }
        module = UMECModule(**settings)
        load_own_weights(module.network, path)
        module.started_from = description.started_from
        module.network.description = module.description()
        return module.eval()
    cls = import_module_class(path, description, UMECModule)
    try:
        return cls.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} does not load as {cls.__name__}: {first_sentence(error)}") from error
