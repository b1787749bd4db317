"""The protocols of published results, by name: arguments of VideoSegmenter, whatever the network."""

from collections.abc import Mapping
from typing import Any

from vos_umec.errors import ConfigError

Settings = dict[str, Any]

PROTOCOLS: dict[str, Settings] = {
    # Label propagation as CRW measures it (Jabri et al., NeurIPS 2020), by its code and the command it gives
    # (ajabri/videowalk 047f3f4): native 480p into ceil(H / 8) x ceil(W / 8) cells, masks resized bilinearly between
    # the centers of pixels and cells. While fewer than 20 frames have passed, the first frame replaces the missing
    # ones, windowed as they would be. CRW's own networks pad by reflection (TrunkEncoder's `padding`). DUL, UVC,
    # SCR and others measure in the same way but for details: DUL's code aligns corners (mask_sampling: aligned).
    "crw": {
        "rounds": 0,
        "references": 20,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None, "tau": 0.05},
        "repeat_first": True,
        "fit": "native",
        "mask_sampling": "bilinear",
        "bf16": False,
    },
    # Label propagation as DINO measures it (Caron et al., ICCV 2021), by its code for DAVIS 2017
    # (facebookresearch/dino 7c446df, eval_video_segmentation.py). The grid is that of the ViT's patches (stride 16,
    # or 8 for the 71.4 of ViT-B/8); keys are the last block's after the final norm; a window is 25 x 25 cells, on
    # the first frame too. What concerns the network alone, position embeddings and the deviation of red, is the
    # encoder's: TimmEncoder with `as_dino`.
    "dino": {
        "rounds": 0,
        "references": 7,
        "readout": {"top_k": 5, "radius": 13, "permanent_radius": 13, "tau": 0.1, "window": "square"},
        "short_side": 480,
        "fit": 64,
        "mask_sampling": "nearest",
        "stretch_masks": True,
        "bf16": False,
    },
    # The whole model as the paper measures it (UMEC section 4, tables 4d and 4e), over whole frames, at the tau
    # with which V and D were trained (0.05 in the paper). The first frame is not repeated; whether the paper's was
    # is open, and repeat_first gives that reading.
    "umec": {
        "rounds": 3,
        "references": 20,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None},
        "crop_margin": None,
        "bf16": False,
    },
    # The whole model as the code that its authors released infers (0liliulei/Mask-VOS 6276e91, infer_mask.py). It
    # differs from the paper: the last 5 frames, the first one in place of those that are missing; one round; masks
    # for the vote carried by label propagation alone; the result is the mean of D's logits and of the coarse masks,
    # and V is given this mean, unbounded, to remember. Not repeated: frames are padded with zeros on both sides,
    # where ours are at the right and at the bottom; frames 960 wide and more are halved; and after a second prompt
    # its lists of keys and masks are one frame apart. That code trains in another way, too: E by DUL's dense
    # contrast; V and D, with E frozen, from true pseudo masks of all references, which are 7 clusters of a video
    # found once, without a position code; and V of ResNet-18 starts from supervised ImageNet weights.
    "umec_code": {
        "rounds": 1,
        "references": 5,
        "readout": {"top_k": 10, "radius": 12, "permanent_radius": None},
        "repeat_first": True,
        "memory_masks": "coarse_vote",
        "blend_coarse": True,
        "mask_sampling": "aligned",
        "crop_margin": None,
        "bf16": False,
    },
}
"""All are in fp32, as their sources are."""

FAST: Settings = {"search_margin": 12, "readout": {"coarse_to_fine": 192}}
"""A search that is not exact. On a CPU that multiplies bf16 a frame of the shipped model takes a third of the time.
On six sequences of DAVIS the model that was shipped before had J&F 68.9 for 69.2."""


def adjust_settings(own: Mapping[str, Any], changes: Mapping[str, Any], fast: bool = False) -> Settings:
    """A model's own arguments of VideoSegmenter with the changes that somebody asks for.

    Args:
        own: The model's own.
        changes: What is to differ; with "protocol" all of the model's own are left out.
        fast: Search as `FAST` does, where the changes do not say otherwise.

    Raises:
        ConfigError: There is a protocol, which says how to search, and `fast`.

    Example:
        >>> adjust_settings({"rounds": 2, "readout": {"top_k": 10}}, {"rounds": 1}, fast=True)
        {'rounds': 1, 'readout': {'top_k': 10, 'coarse_to_fine': 192}, 'search_margin': 12}
        >>> adjust_settings({"rounds": 2}, {"protocol": "crw"})
        {'protocol': 'crw'}
    """
    if "protocol" not in changes:
        return change_settings(change_settings(own, FAST if fast else {}), changes)
    if fast:
        raise ConfigError(
            f"the protocol {changes['protocol']} searches exactly, and fast does not; give one of them"
        )
    return dict(changes)


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
