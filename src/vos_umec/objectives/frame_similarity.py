"""Frame similarity: frames of one clip, each pooled to one vector, attract (after VFS, arXiv 2103.17263)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip


class FrameSimilarityObjective(CorrespondenceObjective):
    """Predict each frame's pooled keys from those of another frame of its clip, without negatives.

    With z_t the mean of the keys of frame t, h a small MLP, sg the stopped gradient and t' another frame of the
    clip (t' - t modulo T is drawn once a batch):

        L = - mean_t cos( h(z_t), sg(z_t') )

    The loss never says which cell matches which. Only h and sg keep E from one output for everything, so watch
    "frame_deviation".

    Source: "Rethinking Self-supervised Correspondence Learning: A Video Frame-level Similarity Perspective", Xu and
    Wang, ICCV 2021, arXiv 2103.17263, without negatives as in SimSiam, Chen and He, CVPR 2021, arXiv 2011.10566.
    Unlike there, z pools the keys, which are matched later, and not projected trunk features; and the colors of
    frames are not altered. It crops each frame anew: give the data module `crop_each_frame: true`.

    Args:
        key_dim: D, the width of E's keys; `UMECModule` fills it in.
        hidden_dim: Width of the hidden layer of h.

    Raises:
        ConfigError: If a width is not positive.
    """

    def __init__(self, key_dim: int = 128, hidden_dim: int = 32) -> None:
        super().__init__()
        if min(key_dim, hidden_dim) < 1:
            raise ConfigError(f"frame similarity with {key_dim=}, {hidden_dim=}; expected at least 1 each")
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
            clip: Clips of at least two frames, with keys `key_dim` wide; others raise ConfigError.

        Returns:
            "loss"; its negative, "frame_similarity"; and "frame_deviation", the standard deviation of unit-norm z
            over the batch times sqrt(D): about 1 for random directions, 0 when E has collapsed. All but the loss
            are detached.
        """
        _, T = clip.require_frames(2, "frame similarity")
        z = clip.keys.mean(dim=(3, 4))  # (B, T, D)
        if z.shape[2] != self.key_dim:
            raise ConfigError(
                f"keys of the encoder are {z.shape[2]} wide, but key_dim={self.key_dim}; make them equal"
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
