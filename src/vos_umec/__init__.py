"""vos_umec: self-supervised video object segmentation by unified mask embedding and correspondence learning.

Everything below can be imported from here; nothing heavy is loaded before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_umec.clustering.segments import SpaceTimeClusterer as SpaceTimeClusterer
    from vos_umec.data.datamodules import SyntheticDataModule as SyntheticDataModule
    from vos_umec.data.datamodules import VideoFolderDataModule as VideoFolderDataModule
    from vos_umec.data.datamodules import YouTubeVOSDataModule as YouTubeVOSDataModule
    from vos_umec.data.evaluation_datamodules import DavisDataModule as DavisDataModule
    from vos_umec.data.evaluation_datamodules import YouTubeVOSPredictDataModule as YouTubeVOSPredictDataModule
    from vos_umec.data.synthetic import SyntheticVOS as SyntheticVOS
    from vos_umec.errors import VosUmecError as VosUmecError
    from vos_umec.inference.load import load_network as load_network
    from vos_umec.inference.load import load_segmenter as load_segmenter
    from vos_umec.inference.segmenter import VideoSegmenter as VideoSegmenter
    from vos_umec.io.source import open_source as open_source
    from vos_umec.metrics.davis import DavisScore as DavisScore
    from vos_umec.models.encoder import Encoder as Encoder
    from vos_umec.models.encoder import ResNetEncoder as ResNetEncoder
    from vos_umec.models.encoder import TrunkEncoder as TrunkEncoder
    from vos_umec.models.factory import build_network as build_network
    from vos_umec.models.timm_encoder import TimmEncoder as TimmEncoder
    from vos_umec.models.umec import UMEC as UMEC
    from vos_umec.models.umec import PropagationNetwork as PropagationNetwork
    from vos_umec.objectives.base import CorrespondenceObjective as CorrespondenceObjective
    from vos_umec.objectives.base import EncodedClip as EncodedClip
    from vos_umec.objectives.colorization import ColorizationObjective as ColorizationObjective
    from vos_umec.objectives.cycle_consistency import CycleConsistencyObjective as CycleConsistencyObjective
    from vos_umec.objectives.dense_contrast import DenseContrastObjective as DenseContrastObjective
    from vos_umec.objectives.equivariance import EquivarianceObjective as EquivarianceObjective
    from vos_umec.objectives.frame_similarity import FrameSimilarityObjective as FrameSimilarityObjective
    from vos_umec.objectives.photometric import PhotometricObjective as PhotometricObjective
    from vos_umec.training.callbacks.pseudo_mask_refresh import PseudoMaskRefresh as PseudoMaskRefresh
    from vos_umec.training.callbacks.time_budget import TimeBudget as TimeBudget
    from vos_umec.training.module import UMECModule as UMECModule
    from vos_umec.transforms.geometric import GeometricTransform as GeometricTransform

_PLACES = {
    "SpaceTimeClusterer": "clustering.segments",
    "GeometricTransform": "transforms.geometric",
    "DavisDataModule": "data.evaluation_datamodules",
    "SyntheticDataModule": "data.datamodules",
    "VideoFolderDataModule": "data.datamodules",
    "YouTubeVOSDataModule": "data.datamodules",
    "YouTubeVOSPredictDataModule": "data.evaluation_datamodules",
    "SyntheticVOS": "data.synthetic",
    "VosUmecError": "errors",
    "VideoSegmenter": "inference.segmenter",
    "open_source": "io.source",
    "DavisScore": "metrics.davis",
    "build_network": "models.factory",
    "PropagationNetwork": "models.umec",
    "TimmEncoder": "models.timm_encoder",
    "Encoder": "models.encoder",
    "ResNetEncoder": "models.encoder",
    "TrunkEncoder": "models.encoder",
    "UMEC": "models.umec",
    "CorrespondenceObjective": "objectives.base",
    "EncodedClip": "objectives.base",
    "ColorizationObjective": "objectives.colorization",
    "CycleConsistencyObjective": "objectives.cycle_consistency",
    "DenseContrastObjective": "objectives.dense_contrast",
    "EquivarianceObjective": "objectives.equivariance",
    "FrameSimilarityObjective": "objectives.frame_similarity",
    "PhotometricObjective": "objectives.photometric",
    "load_network": "inference.load",
    "load_segmenter": "inference.load",
    "UMECModule": "training.module",
    "PseudoMaskRefresh": "training.callbacks.pseudo_mask_refresh",
    "TimeBudget": "training.callbacks.time_budget",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vos-umec")
    if name not in _PLACES:
        raise AttributeError(f"module 'vos_umec' has no attribute '{name}'")
    return getattr(import_module(f"vos_umec.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_PLACES, "__version__"])
