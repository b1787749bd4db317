"""Trained networks in files: writing and reading them, and weights that a run starts from."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, TypeVar
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vos_umec.errors import CheckpointError, ConfigError, first_sentence
from vos_umec.io.atomic import atomic_path
from vos_umec.models.description import KEY, Description, NetworkSpec
from vos_umec.models.factory import build_network, import_class
from vos_umec.models.hub import find_model
from vos_umec.models.umec import PropagationNetwork
from vos_umec.models.weights import BROKEN, check_fits, check_size, read_tensors
from vos_umec.shipped import SHIPPED

log = logging.getLogger(__name__)

_T = TypeVar("_T")

SUFFIX = ".safetensors"


def load(path: str | Path = SHIPPED) -> PropagationNetwork:
    """The network of a checkpoint, a model file, a folder or the Hub, on the CPU and in evaluation mode.

    It is the pure network, a UMEC or an encoder alone, to train on, to export or to look into. `load_segmenter`
    gives what segments videos with it.

    Args:
        path: A .ckpt file that training wrote; a .safetensors file or a folder that `vos-umec export` or
            `save_pretrained` wrote; or, if nothing has this path, a model's name on the Hub, "owner/name" or
            "owner/name@REVISION". Without one, the model that comes with this package.

    Raises:
        CheckpointError: If nothing is found, it is none of these, or holds another network.
        MissingDependencyError: If it is a name on the Hub, and huggingface_hub is not installed.

    Example:
        >>> load().stride
        4
    """
    return load_described(path)[0]


def load_described(path: str | Path) -> tuple[PropagationNetwork, Description]:
    """The network of a checkpoint or a model file, and its description; arguments and errors as of `load`."""
    path = find_model(path)
    description = read_description(path)
    network: PropagationNetwork
    if description.network is None:  # an own module class builds it: import that, and Lightning
        module_class: Any = import_module_class(path, description, nn.Module)
        network = module_class.load_from_checkpoint(path, map_location="cpu", weights_only=True).network
    else:
        network = build_from_file(description.network, path)
    network.description = description
    return network.eval(), description


def write_model(
    network: PropagationNetwork, path: str | Path, description: Description, card: Mapping[str, Any] | None = None
) -> None:
    """Write a network and its settings as a model file. Optimizer, objectives and schedule are left out.

    Weights become fp16; norms and biases stay fp32.

    Args:
        network: The network.
        path: File to write, ending in .safetensors; it appears whole or not at all.
        description: How to build it and how to segment with it.
        card: What a reader should know of the model, plain values: data, minutes, scores.

    Raises:
        CheckpointError: If the path does not end in .safetensors, or an own module class builds the network.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"a model file ends in {SUFFIX}; found {path.name}")
    with atomic_path(path) as temporary:
        temporary.write_bytes(model_bytes(network, description, card))


def model_bytes(network: nn.Module, description: Description, card: Mapping[str, Any] | None = None) -> bytes:
    """The content of a model file, as `write_model` writes it."""
    if description.network is None:
        raise CheckpointError(
            f"{description.module_class} overrides build_network, and a model file can only name a preset or a "
            "class_path; keep the checkpoint, which names its class"
        )
    tensors = {
        name: (value.half() if value.is_floating_point() and value.dim() > 1 else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    metadata = {KEY: json.dumps(asdict(public_description(description))), "card": json.dumps(dict(card or {}))}
    content: bytes = save(tensors, metadata)  # save_file() makes a file that only its owner can read
    return content


def public_description(description: Description) -> Description:
    """The description without the folders of this machine in which weights lay."""
    paths = ("path", "encoder")
    started = [
        {key: Path(value).name if key in paths and isinstance(value, str) else value for key, value in each.items()}
        for each in description.started_from
    ]
    return replace(description, started_from=started)


def read_description(path: str | Path) -> Description:
    """The description in a checkpoint or a model file, without reading its tensors.

    Args:
        path: A checkpoint that training wrote, or a model file.

    Raises:
        CheckpointError: If the file is missing or is neither of the two.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; give a .ckpt file that training wrote, or a .safetensors file that "
            "`vos-umec export` wrote"
        )
    check_size(path)
    try:
        if Path(path).suffix == SUFFIX:
            description = Description(**json.loads(_metadata(path)[KEY]))
        elif not is_zipfile(path):
            raise ValueError("it is no archive, as torch.save writes them")
        else:
            description = Description(**torch.load(path, map_location="cpu", weights_only=True, mmap=True)[KEY])
    except BROKEN as error:
        raise CheckpointError(
            f"{path} is no checkpoint or model file of this version of vos_umec ({first_sentence(error)}); give "
            "a .ckpt file that training wrote, or a .safetensors file that `vos-umec export` wrote"
        ) from error
    for name in [description.module_class, *_class_paths(description.network)]:
        _require_trusted(path, name)
    return description


def _class_paths(value: Any) -> Iterator[Any]:
    """Every class that a description names, at any depth."""
    if isinstance(value, Mapping):
        yield from (held for key, held in value.items() if key == "class_path")
    if isinstance(value, Mapping | list):
        for held in value.values() if isinstance(value, Mapping) else value:
            yield from _class_paths(held)


def _require_trusted(path: str | Path, name: Any) -> None:
    """Refuse a class whose module lies in the current folder, where a stranger's archive may have put it.

    A module that is installed, imported already or in a folder of PYTHONPATH is the user's own choice; so is one
    beside a script, where Python itself looks first.
    """
    module = str(name or "").partition(".")[0]
    if not module or module in sys.modules:
        return
    here = Path.cwd()
    chosen = [*sys.path[:1], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if here in (Path(folder).absolute() for folder in chosen):
        return
    elsewhere = [folder for folder in sys.path if Path(folder).absolute() != here]
    if PathFinder.find_spec(module, elsewhere) is None and PathFinder.find_spec(module, [str(here)]) is not None:
        raise CheckpointError(
            f"{path} names {name}, and loading it would run the code of {module} in the current folder; if that is "
            "your own, put the folder on PYTHONPATH: PYTHONPATH=. vos-umec ..."
        )


def import_module_class(path: str | Path, description: Description, base: type[_T]) -> type[_T]:
    """The class of the LightningModule that wrote a checkpoint, which derives from `base`.

    Raises:
        CheckpointError: If it cannot be imported.
    """
    try:
        return import_class(str(description.module_class), base)
    except ConfigError as error:
        raise CheckpointError(
            f"{path} was written by a class of your own: {error}; run from the folder of its module, or load it "
            "with load_from_checkpoint of that class"
        ) from error


def read_card(path: str | Path) -> dict[str, Any]:
    """The model card in a file that `write_model` wrote: data, minutes, scores.

    Raises:
        CheckpointError: If it is no such file.
    """
    check_size(path)
    try:
        card: dict[str, Any] = json.loads(_metadata(path)["card"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} holds no card that can be read; export the model again") from error
    return card


def read_training(path: str | Path) -> dict[str, Any]:
    """What a checkpoint or a model file tells of its training, in plain values: the card of a model file.

    Names of data are those of their folders alone, without where these lie.

    Raises:
        CheckpointError: If it is no such file.
    """
    if Path(path).suffix == SUFFIX:
        return read_card(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        own, data = (dict(held.get(name) or {}) for name in ("hyper_parameters", "datamodule_hyper_parameters"))
        facts: dict[str, Any] = {"steps": int(held["global_step"]), "epochs": int(held["epoch"]) + 1}
    except BROKEN as error:
        raise CheckpointError(f"{path} does not tell how it was trained: {first_sentence(error)}") from error
    objectives = own.get("objectives") or [{"class_path": "vos_umec.EquivarianceObjective"}]
    facts["objectives"] = [{str(each["class_path"]): each.get("init_args") or {}} for each in objectives]
    facts |= {name: own[name] for name in ("freeze_encoder", "learning_rate", "weight_decay") if name in own}
    if data.get("root"):
        facts["data"] = Path(data["root"]).name
    facts |= {name: data[name] for name in ("frames", "crop", "short_side", "batch_size") if data.get(name)}
    return facts


def build_from_file(spec: NetworkSpec, path: str | Path) -> PropagationNetwork:
    """The network that a checkpoint or a model file describes, with its weights.

    Raises:
        CheckpointError: If the file is missing, or its tensors are not those of the network that it describes, or
            are not finite.
        ConfigError: If it describes no network.
    """
    weights = _network_tensors(path)
    if broken := [name for name, x in weights.items() if x.is_floating_point() and not x.isfinite().all()]:
        raise CheckpointError(
            f"{path} has weights that are no numbers (NaN or infinity, such as in {broken[0]}): its training went "
            "astray; give another checkpoint"
        )
    if isinstance(spec, str) or not any(_class_paths(spec)):
        with torch.device("meta"):  # takes no memory: a file may state any width
            check_fits(weights, build_network(spec).state_dict())
    network = build_network(spec)
    check_fits(weights, network.state_dict())
    network.load_state_dict(weights)
    return network


def _network_tensors(path: str | Path) -> dict[str, Tensor]:
    """The network's tensors in a checkpoint, or all of a model file, by the network's own names."""
    tensors = read_tensors(path)
    kept = {name: x for name, x in tensors.items() if name.startswith("network.")}  # of a checkpoint
    return {name.removeprefix("network."): x for name, x in (kept or tensors).items()}


def load_own_weights(network: nn.Module, path: str | Path, parts: list[str] | None = None) -> None:
    """Load weights from a checkpoint or a model file of the same network.

    Args:
        network: The network.
        path: The file.
        parts: What is loaded, of "encoder", "mask_encoder" and "decoder"; None for all.

    Raises:
        CheckpointError: If the file is missing or no such file, or is of another network.
        ConfigError: If the network has no such part.
    """
    weights = _network_tensors(path)
    if parts is None:
        check_fits(weights, network.state_dict())
        network.load_state_dict(weights)
        return
    children = dict(network.named_children())
    if unknown := set(parts) - children.keys():
        raise ConfigError(f"no part {sorted(unknown)} to start from; the network's parts are {', '.join(children)}")
    for part in parts:
        own = {name.removeprefix(f"{part}."): x for name, x in weights.items() if name.startswith(f"{part}.")}
        check_fits(own, children[part].state_dict())
        children[part].load_state_dict(own)


def initialize(network: PropagationNetwork, init_from: str | Path | Mapping[str, Any]) -> list[dict[str, Any]]:
    """Load the weights that a training starts from, and report them in the log.

    Args:
        network: The network.
        init_from: One of

            * a checkpoint or model file of the same network, or "shipped" for the model of this package;
            * `{"path": FILE, "parts": ["encoder"]}` for some of its parts;
            * `{"encoder": FILE, "used_labels": false}` for published weights of the encoder's backbone, and whether
              they were trained with labels; "timm" in place of a file downloads those of a TimmEncoder's name.

    Returns:
        A record in plain values: these weights, after those that the file itself started from.

    Raises:
        ConfigError: If `init_from` is none of these, or `used_labels` is missing.
        CheckpointError: If the file is missing or does not fit.
    """
    spec: dict[str, Any] = dict(init_from) if isinstance(init_from, Mapping) else {"path": str(init_from)}
    if "path" in spec and spec.keys() <= {"path", "parts"}:
        path = SHIPPED if str(spec["path"]) == "shipped" else find_model(spec["path"])
        parts = [spec["parts"]] if isinstance(spec.get("parts"), str) else spec.get("parts")
        load_own_weights(network, path, parts)
        log.info("%s starts from %s", ", ".join(parts or ["the network"]), path)
        try:
            earlier = read_description(path).started_from
        except CheckpointError:  # a plain state dictionary tells nothing of itself
            earlier = []
        return [*earlier, {"path": str(spec["path"]), **({} if parts is None else {"parts": list(parts)})}]
    if "encoder" not in spec or not spec.keys() <= {"encoder", "used_labels"}:
        raise ConfigError(
            f"init_from is a file, {{path: FILE, parts: [encoder]}} or {{encoder: FILE, used_labels: false}}; "
            f"found {init_from}"
        )
    if not isinstance(spec.get("used_labels"), bool):
        raise ConfigError(
            f"give, beside the weights {spec['encoder']}, whether they were trained with labels: used_labels: true "
            "(as those of a classifier) or false (self-supervised)"
        )
    network.encoder.load_weights(spec["encoder"])
    if spec["used_labels"]:
        log.warning("the encoder starts from %s, trained WITH labels: this is not self-supervised", spec["encoder"])
    else:
        log.info("the encoder starts from %s, trained without labels", spec["encoder"])
    return [{**spec, "encoder": str(spec["encoder"])}]


def _metadata(path: str | Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as a model file: {error}") from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} holds tensors but not how to build a network of them; give a file that `vos-umec export` wrote"
        )
    return metadata
