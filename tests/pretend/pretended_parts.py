"""Parts of the package on the pretended device, each for itself: does it run, how often does the host wait?"""

import traceback
from collections.abc import Callable

import numpy as np
import torch
from pretended_device import PretendedTensor, cuda
from pretended_frames import NARROW

import vos_umec
from vos_umec.clustering import SpaceTimeClusterer
from vos_umec.clustering.video import cluster_keys, encode_frames
from vos_umec.inference import VideoSegmenter
from vos_umec.matching.evidence import EVIDENCE
from vos_umec.metrics import DavisScore
from vos_umec.models import UMEC, ResNetEncoder
from vos_umec.models.factory import build_network
from vos_umec.objectives import EncodedClip, SegmentationObjective
from vos_umec.transforms import ClipAugment, CopyPaste

Call = Callable[[], object]
S = 64
OBJECTIVES: dict[str, dict[str, object]] = {
    "EquivarianceObjective": {},
    "DenseContrastObjective": {},
    "PhotometricObjective": {},
    "CycleConsistencyObjective": {},
    "ColorizationObjective": {},
    "FrameSimilarityObjective": {"key_dim": 64},
}
SEGMENTERS: dict[str, dict[str, object]] = {
    "whole frame": {"crop_margin": None},
    "a late object, outliers dropped, a shorter side": {"late": True, "max_extent": 4, "short_side": 64},
    "coarse masks in memory, fp32": {"memory_masks": "coarse", "bf16": False},
    "from coarse to fine": {"late": True, "readout": {"radius": 6, "coarse_to_fine": 8}, "search_margin": 4},
}


def network(preset: str, **changes: object) -> UMEC:
    return build_network({"preset": preset, **changes}).to("cuda", memory_format=torch.channels_last)


def bf16(enabled: bool = True) -> torch.autocast:
    return torch.autocast("cuda", torch.bfloat16, enabled=enabled)


def frames(B: int = 2, T: int = 3) -> torch.Tensor:
    return torch.rand(B, T, 3, S, S, device="cuda")


def squares(B: int = 2, T: int = 3) -> torch.Tensor:
    segments = torch.zeros(B, T, S, S, dtype=torch.uint8)
    segments[:, :, 10:30, 10:30] = 1
    segments[:, :, 40:60, 40:60] = 2
    return segments.to("cuda", non_blocking=True)


def encoded(net: UMEC) -> EncodedClip:
    numbers = 5 * torch.arange(3).expand(2, 3)
    return EncodedClip(net.encoder, frames(), numbers.to("cuda", non_blocking=True))


def whole_network(net: UMEC, autocast: bool) -> Call:
    """E, V, A and D, and the gradients of all weights."""

    def call() -> object:
        x, masks = frames()[:, 0], torch.rand(2, 2, S, S, device="cuda")
        valid = torch.ones(2, 2, dtype=torch.bool, device="cuda")
        with bf16(autocast):
            features = net.encoder(x)
            values = net.embed(x, features, masks)
            sure = torch.rand(2, 2, EVIDENCE, *values.shape[-2:], device="cuda")
            logits = net.decode(x, features, values, net.to_grid(masks), 2, valid, sure)
        torch.stack([each.float().clamp(-5, 5).mean() for each in logits]).sum().backward()
        return [*logits, values, features.key, *(p.grad for p in net.parameters() if p.grad is not None)]

    return call


def objective(net: UMEC, name: str, settings: dict[str, object]) -> Call:
    made = getattr(vos_umec, name)(**settings).to("cuda")

    def call() -> object:
        with bf16():
            terms = made(encoded(net))
        terms["loss"].backward()
        return terms

    return call


def segmentation(net: UMEC, **settings: object) -> Call:
    made = SegmentationObjective(**settings)

    def call() -> object:
        with bf16():
            loss = made(net, encoded(net), squares())
        loss.backward()
        return loss

    return call


def checkpointed_encoder(net: UMEC) -> Call:
    def call() -> object:
        with bf16():
            key = net.encoder(frames()[:, 0]).key
        key.sum().backward()
        return key

    return call


def augmented() -> object:
    clips = torch.randint(0, 255, (2, 3, 3, 80, 80), dtype=torch.uint8, device="cuda")
    segments = torch.randint(0, 4, (2, 3, 80, 80), dtype=torch.uint8, device="cuda")
    return ClipAugment(S)({"frames": clips, "segments": segments})


def composites() -> object:
    return CopyPaste(1.0)({"frames": frames(4), "segments": squares(4)})


def segmenter(net: UMEC, late: bool = False, protocol: str | None = None, **settings: object) -> Call:
    """The last of five frames; `prepare` runs the others."""
    size = (96, 128)
    pictures = np.random.default_rng(0).integers(0, 255, (5, *size, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[10:26, 20:60], mask[30:46, 40:80] = 1, 2
    another = np.zeros(size, np.uint8)
    another[60:80, 90:110] = 9
    made = VideoSegmenter.from_protocol(net, protocol, **settings)
    for t, picture in enumerate(pictures[:4]):
        made.step(picture, mask if t == 0 else another if t == 2 and late else None)

    def call() -> object:
        ids = made.step(pictures[4])
        if ids.dtype != np.uint8 or ids.shape != size:
            raise TypeError(f"the segmenter gave {ids.dtype} {ids.shape}")
        return []

    return call


def clustered(net: UMEC) -> Call:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 66, 90, 3), dtype=np.uint8)

    def call() -> object:
        keys = encode_frames(pictures, net.encoder, torch.device("cuda"))
        result = cluster_keys(keys, SpaceTimeClusterer(), (66, 90), net.stride, seed=0)
        if result.segments.shape != (6, 66, 90):
            raise TypeError(f"segments are {result.segments.shape}")
        return keys

    return call


def scored() -> object:
    ids = torch.ones(4, 30, 30, dtype=torch.uint8, device="cuda")
    score = DavisScore().to("cuda")
    score.update(ids, ids, sequence="a")
    return score.compute()


def encoder(**settings: object) -> Call:
    made = ResNetEncoder(blocks=(1, 1), strides=(1, 2), key_dim=16, **settings).to("cuda")
    return lambda: made(frames()[:, 0]).key


def parts() -> dict[str, Callable[[], Call]]:
    """By name, what makes a part ready: only the call that it gives is counted."""
    nets = {name: network(name) for name in ("tiny", "compact")} | {"resnet18": network(**NARROW)}
    tiny = nets["tiny"]
    made: dict[str, Callable[[], Call]] = {}
    for name, net in nets.items():
        made[f"{name}: E, V, A, D with gradients, fp32"] = lambda net=net: whole_network(net, autocast=False)
        made[f"{name}: E, V, A, D with gradients, bf16"] = lambda net=net: whole_network(net, autocast=True)
        made[f"{name}: VideoSegmenter"] = lambda net=net: segmenter(net)
    for name, settings in OBJECTIVES.items():
        made[name] = lambda name=name, settings=settings: objective(tiny, name, settings)
    made["SegmentationObjective, all cells"] = lambda: segmentation(tiny)
    made["SegmentationObjective, IoU too"] = lambda: segmentation(tiny, iou_weight=1.0)
    windowed = {"top_k": 10, "radius": 12, "permanent_radius": 30}
    made["SegmentationObjective, the best cells in windows"] = lambda: segmentation(tiny, readout=windowed)
    checkpointing = network("tiny", gradient_checkpointing=True)
    made["gradient checkpointing"] = lambda: checkpointed_encoder(checkpointing)
    made["an encoder that sees grey"] = lambda: encoder(color="grey")
    made["an encoder with a pyramid"] = lambda: encoder(pyramid_weights=[1.0, 0.5])
    made["ClipAugment"] = lambda: augmented
    made["CopyPaste"] = lambda: composites
    for protocol in ("umec", "crw"):
        made[f"VideoSegmenter, protocol {protocol}"] = lambda protocol=protocol: segmenter(tiny, protocol=protocol)
    for name, settings in SEGMENTERS.items():
        made[f"VideoSegmenter, {name}"] = lambda settings=settings: segmenter(tiny, **settings)
    made["encode_frames and SpaceTimeClusterer"] = lambda: clustered(tiny)
    made["DavisScore"] = lambda: scored
    return made


def on_device(results: object) -> None:
    """Refuse results that have left the device."""
    for x in results.values() if isinstance(results, dict) else [results] if torch.is_tensor(results) else results:
        if not isinstance(x, PretendedTensor):
            raise TypeError(f"a result is {type(x).__name__}, not a tensor on the device")


def measure() -> list[dict[str, object]]:
    """A row for each part."""
    rows = []
    with cuda() as counts:
        for name, prepare in parts().items():
            torch.manual_seed(0)
            error = None
            try:
                call = prepare()
                counts.reset()
                on_device(call())
            except Exception:
                error = traceback.format_exc(limit=-4)
            rows.append({"name": name, "error": error} | counts.summary())
    return rows
