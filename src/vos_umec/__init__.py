"""vos_umec: self-supervised video object segmentation by unified mask embedding and correspondence learning.

Everything below can be imported from here; nothing heavy is loaded before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_umec.clustering.segments import SpaceTimeClusterer as SpaceTimeClusterer
    from vos_umec.data.evaluation_modules import DavisModule as DavisModule
    from vos_umec.data.evaluation_modules import YouTubeVOSPredictModule as YouTubeVOSPredictModule
    from vos_umec.data.geometry import GeometricTransform as GeometricTransform
    from vos_umec.data.modules import SyntheticModule as SyntheticModule
    from vos_umec.data.modules import VideoFolderModule as VideoFolderModule
    from vos_umec.data.modules import YouTubeVOSModule as YouTubeVOSModule
    from vos_umec.data.synthetic import SyntheticVOS as SyntheticVOS
    from vos_umec.errors import VosUmecError as VosUmecError
    from vos_umec.inference.segmenter import VideoSegmenter as VideoSegmenter
    from vos_umec.io.source import open_source as open_source
    from vos_umec.metrics.davis import DavisScore as DavisScore
    from vos_umec.models.presets import network_from_preset as network_from_preset
    from vos_umec.models.propagation import PropagationNetwork as PropagationNetwork
    from vos_umec.models.published import load_published as load_published
    from vos_umec.models.timm_encoder import TimmEncoder as TimmEncoder
    from vos_umec.models.trunk_encoder import TrunkEncoder as TrunkEncoder
    from vos_umec.models.umec import UMEC as UMEC
    from vos_umec.objectives.base import CorrespondenceObjective as CorrespondenceObjective
    from vos_umec.objectives.base import EncodedClip as EncodedClip
    from vos_umec.objectives.colorization import ColorizationObjective as ColorizationObjective
    from vos_umec.objectives.cycle_consistency import CycleConsistencyObjective as CycleConsistencyObjective
    from vos_umec.objectives.dense_contrast import DenseContrastObjective as DenseContrastObjective
    from vos_umec.objectives.equivariance import EquivarianceObjective as EquivarianceObjective
    from vos_umec.objectives.frame_similarity import FrameSimilarityObjective as FrameSimilarityObjective
    from vos_umec.objectives.photometric import PhotometricObjective as PhotometricObjective
    from vos_umec.training.budget import TimeBudget as TimeBudget
    from vos_umec.training.checkpoint import load_network as load_network
    from vos_umec.training.checkpoint import load_segmenter as load_segmenter
    from vos_umec.training.module import UMECModule as UMECModule
    from vos_umec.training.refresh import PseudoMaskRefresh as PseudoMaskRefresh

_PLACES = {
    "SpaceTimeClusterer": "clustering.segments",
    "GeometricTransform": "data.geometry",
    "DavisModule": "data.evaluation_modules",
    "SyntheticModule": "data.modules",
    "VideoFolderModule": "data.modules",
    "YouTubeVOSModule": "data.modules",
    "YouTubeVOSPredictModule": "data.evaluation_modules",
    "SyntheticVOS": "data.synthetic",
    "VosUmecError": "errors",
    "VideoSegmenter": "inference.segmenter",
    "open_source": "io.source",
    "DavisScore": "metrics.davis",
    "network_from_preset": "models.presets",
    "PropagationNetwork": "models.propagation",
    "load_published": "models.published",
    "TimmEncoder": "models.timm_encoder",
    "TrunkEncoder": "models.trunk_encoder",
    "UMEC": "models.umec",
    "CorrespondenceObjective": "objectives.base",
    "EncodedClip": "objectives.base",
    "ColorizationObjective": "objectives.colorization",
    "CycleConsistencyObjective": "objectives.cycle_consistency",
    "DenseContrastObjective": "objectives.dense_contrast",
    "EquivarianceObjective": "objectives.equivariance",
    "FrameSimilarityObjective": "objectives.frame_similarity",
    "PhotometricObjective": "objectives.photometric",
    "load_network": "training.checkpoint",
    "load_segmenter": "training.checkpoint",
    "UMECModule": "training.module",
    "PseudoMaskRefresh": "training.refresh",
    "TimeBudget": "training.budget",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vos-umec")
    if name not in _PLACES:
        raise AttributeError(f"module 'vos_umec' has no attribute '{name}'")
    return getattr(import_module(f"vos_umec.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_PLACES, "__version__"])
