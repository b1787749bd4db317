"""The protocols of published results, by name: how masks are propagated, whatever the network."""

from collections.abc import Callable, Mapping
from typing import Any

from vos_umec.errors import ConfigError

Settings = dict[str, Any]


def crw() -> Settings:
    """Label propagation as CRW measures it (Jabri et al., NeurIPS 2020), and after it DUL, UVC, SCR and others.

    The first frame without a window and the last 20 within a disc of radius 12 cells (strictly nearer), the 10 best
    cells of all of them, a softmax at tau 0.05, soft masks propagated. While fewer than 20 frames have passed, the
    first frame stands in for the missing ones, windowed as they would be: CRW's code puts 20 copies of it before
    the video, DUL's clamps indices to it. Native 480p, stride 8. Taken from CRW's code and the command it gives.

    Not repeated: masks come down to the grid by averages over cells (there: bilinear, corners aligned) and frames
    are padded to whole cells.
    """
    return {
        "rounds": 0,
        "references": 20,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None, "tau": 0.05},
        "repeat_first": True,
    }


def dino() -> Settings:
    """Label propagation as DINO measures it (Caron et al., ICCV 2021), in its code for DAVIS 2017.

    The first frame and the last 7, all of them within 12 cells, the 5 best cells, exp(cos / 0.1), soft masks
    propagated, no frame repeated; the grid is that of the ViT's patches (stride 16, or 8 for the 71.4 of ViT-B/8),
    keys are the last block's after the final norm, 480p.

    Not repeated: the code's window is a square of 25 x 25 cells where ours is a disc; it scales the width down to
    a multiple of 64 where ours is padded; it stretches each object's mask to 0 to 1 before the largest wins.
    """
    return {
        "rounds": 0,
        "references": 7,
        "readout": {"top_k": 5, "radius": 12, "permanent_radius": 12, "tau": 0.1},
    }


def umec() -> Settings:
    """The whole model as UMEC measures it (CVPR 2023, section 4 and tables 4d and 4e).

    The first frame without a window and the last 20 within a disc of radius 12 cells, the 10 best cells, 3 rounds
    of refinement over the whole frame, the final soft mask into memory. The temperature is the network's own, which
    V and D were trained with (0.05 in the paper). The first frame is not repeated; whether the paper's was is open,
    and `repeat_first=True` gives that reading.
    """
    return {
        "rounds": 3,
        "references": 20,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None},
        "crop_margin": None,
    }


PROTOCOLS: Mapping[str, Callable[[], Settings]] = {"crw": crw, "dino": dino, "umec": umec}


def protocol_settings(name: str) -> Settings:
    """The arguments of VideoSegmenter that a protocol stands for.

    Args:
        name: "crw", "dino" or "umec".

    Raises:
        ConfigError: If there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{name}'; the protocols are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]()


def change_settings(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """Settings of VideoSegmenter with some of them changed; the read-out's are changed one by one.

    Args:
        settings: The settings.
        changes: Those that differ.

    Example:
        >>> change_settings({"rounds": 3, "readout": {"top_k": 10, "tau": 0.1}}, {"readout": {"top_k": 5}})
        {'rounds': 3, 'readout': {'top_k': 5, 'tau': 0.1}}
    """
    changed = {**settings, **changes}
    old, new = settings.get("readout"), changes.get("readout")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changed["readout"] = {**old, **new}
    return changed
