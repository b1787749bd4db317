"""What a network's file says of it, in plain values: how to build it, to segment with it, where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NetworkSpec = str | Mapping[str, Any]
"""What `build_network` takes: plain values, as in a YAML file, in a checkpoint or in a model file."""

KEY = "vos_umec"
"""Where a checkpoint and a model file keep their description."""


@dataclass(frozen=True)
class Description:
    """The description of a network in its file, in plain values.

    Attributes:
        network: What `build_network` takes; None if an own module class builds the network.
        segmenter: Arguments of VideoSegmenter with which it was validated.
        started_from: The weights that its training started from, and theirs, oldest first; empty for random ones.
        module_class: Full name of the LightningModule that wrote it, in a checkpoint.
    """

    network: NetworkSpec | None
    segmenter: dict[str, Any] = field(default_factory=dict)
    started_from: list[dict[str, Any]] = field(default_factory=list)
    module_class: str | None = None
