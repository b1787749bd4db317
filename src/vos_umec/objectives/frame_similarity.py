"""Frame similarity: two frames of one clip, each pooled to one vector, attract (after SimSiam and VFS)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip


class FrameSimilarityObjective(CorrespondenceObjective):
    """Predict each frame's pooled keys from those of another frame of its clip, without negatives.

    With z_t the mean of the keys of frame t, h a small MLP, sg stopping the gradient and t' another frame of the
    clip, one draw of t' - t (modulo T) a batch:

        L = - mean_t cos( h(z_t), sg(z_t') )

    No cell is told which cell it matches: correspondence can only come out of frames as wholes. Nothing but the
    predictor and the stopped gradient keeps all outputs from becoming one, so their deviation is reported.

    Source: "Exploring Simple Siamese Representation Learning" (CVPR 2021), on frames of a video as in "Rethinking
    Self-supervised Correspondence Learning: A Video Frame-level Similarity Perspective" (ICCV 2021). Ours predicts
    pooled keys, which are what is matched later, where the sources put a projection on pooled trunk features; and
    frames differ by what moved alone.

    Args:
        key_dim: D, the width of E's keys; a UMECModule gives its own E's where the configuration gives none.
        hidden_dim: Width of the predictor's hidden layer.

    Raises:
        ConfigError: When a width is not positive.

    Example:
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.arange(3).expand(2, 3))
        >>> sorted(FrameSimilarityObjective(key_dim=16)(clip))
        ['frame_deviation', 'frame_similarity', 'loss']
    """

    def __init__(self, key_dim: int = 128, hidden_dim: int = 32) -> None:
        super().__init__()
        if min(key_dim, hidden_dim) < 1:
            raise ConfigError(
                f"frame similarity was given key_dim {key_dim} and hidden_dim {hidden_dim}; expected at least 1"
            )
        self.key_dim = key_dim
        self.predictor = nn.Sequential(
            nn.Linear(key_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, key_dim),
        )

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames.

        Returns:
            "loss", "frame_similarity", its negative, and "frame_deviation", the standard deviation over the batch
            of unit-norm z, times sqrt(D): about 1 when vectors point anywhere, 0 when E has collapsed. The last
            two detached.

        Raises:
            ConfigError: When clips have one frame, or keys are not `key_dim` wide.
        """
        T = clip.frame_indices.shape[1]
        if T < 2:
            raise ConfigError(f"frame similarity needs clips of 2 frames or more; found {T}")
        z = clip.keys.mean(dim=(3, 4))  # (B, T, D)
        if z.shape[2] != self.key_dim:
            raise ConfigError(
                f"the encoder's keys are {z.shape[2]} wide and frame similarity was given key_dim {self.key_dim}; "
                "set key_dim to the encoder's"
            )
        step = int(torch.randint(1, T, ()))
        predicted = self.predictor(z.flatten(0, 1)).view_as(z)
        similarity = F.cosine_similarity(predicted.to(z.dtype), z.detach().roll(step, dims=1), dim=2).mean()
        unit = F.normalize(z.detach().flatten(0, 1), dim=1)
        return {
            "loss": -similarity,
            "frame_similarity": similarity.detach(),
            "frame_deviation": unit.std(dim=0, correction=0).mean() * self.key_dim**0.5,
        }
