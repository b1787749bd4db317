"""The protocols of published results, by name: arguments of VideoSegmenter, whatever the network."""

from collections.abc import Mapping
from typing import Any

Settings = dict[str, Any]

PROTOCOLS: dict[str, Settings] = {
    # Label propagation as CRW measures it (Jabri et al., NeurIPS 2020), and after it DUL, UVC, SCR and others; from
    # CRW's code and the command it gives. Native 480p, stride 8. While fewer than 20 frames have passed, the first
    # frame replaces the missing ones, windowed as they would be: CRW's code puts 20 copies of it before the
    # video, DUL's clamps indices to it. Not repeated: masks come down to the grid by averages over cells (there:
    # bilinear, corners aligned), and frames are padded to whole cells.
    "crw": {
        "rounds": 0,
        "references": 20,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None, "tau": 0.05},
        "repeat_first": True,
    },
    # Label propagation as DINO measures it (Caron et al., ICCV 2021), in its code for DAVIS 2017, 480p. The grid is
    # that of the ViT's patches (stride 16, or 8 for the 71.4 of ViT-B/8); keys are the last block's after the final
    # norm. Not repeated: the code's window is a square of 25 x 25 cells where ours is a disc. It scales the width
    # to a multiple of 64 where ours is padded. It stretches each object's mask to 0 to 1 before the largest wins.
    "dino": {
        "rounds": 0,
        "references": 7,
        "readout": {"top_k": 5, "radius": 12, "permanent_radius": 12, "tau": 0.1},
    },
    # The whole model as UMEC measures it (section 4, tables 4d and 4e), over whole frames, at the tau with which V
    # and D were trained (0.05 in the paper). The first frame is not repeated; whether the paper's was is open, and
    # repeat_first gives that reading.
    "umec": {
        "rounds": 3,
        "references": 20,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None},
        "crop_margin": None,
    },
}


def change_settings(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """Arguments of VideoSegmenter with some of them changed; the read-out's settings are changed one by one.

    Example:
        >>> change_settings({"rounds": 3, "readout": {"top_k": 10, "tau": 0.1}}, {"readout": {"top_k": 5}})
        {'rounds': 3, 'readout': {'top_k': 5, 'tau': 0.1}}
    """
    changed = {**settings, **changes}
    old, new = settings.get("readout"), changes.get("readout")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changed["readout"] = {**old, **new}
    return changed
