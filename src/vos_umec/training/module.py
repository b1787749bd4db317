"""UMECModule, the thin LightningModule around the network and its losses."""

from typing import Any, Self, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.matching.readout import Readout
from vos_umec.models.encoder import Encoder
from vos_umec.models.factory import instantiate, network_from_preset
from vos_umec.models.published import load_published
from vos_umec.models.resnet import keep_block_inputs_only
from vos_umec.models.umec import UMEC, PropagationNetwork
from vos_umec.models.weights import (
    check_fits,
    declare_weights,
    load_own_weights,
    weights_are_wanted,
    weights_from_checkpoint,
)
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.propagation import ALL_CELLS, propagate_masks
from vos_umec.objectives.segmentation import choose_targets, segmentation_loss
from vos_umec.training.checks import check_size, check_training, on_any_rank
from vos_umec.training.scoring import ScoringModule

Batch = dict[str, Any]
MODULE_CLASS = "module_class"
"""Where a checkpoint keeps the full name of the module's class."""


class UMECModule(ScoringModule):
    """Trains UMEC on clips of unlabelled video and scores it on annotated ones: L = L_seg + L_corr.

    Correspondence learns from the first step. L_seg joins in as soon as a batch brings pseudo masks, which
    `PseudoMaskRefresh` first makes at the end of `warmup_epochs`. All arguments are plain values, so a checkpoint
    rebuilds its module alone: `UMECModule.load_from_checkpoint(path)`. A training batch is a dictionary, as every
    `ClipDataModule` gives it: "frames" (B, T, 3, H, W) normalised, "frame_indices" (B, T), and where there are pseudo
    masks "segments" (B, T, H, W) and "generation" (B,).

    The commands train in bf16 where the hardware multiplies in it; a Trainer of your own is told so by
    `precision="bf16-mixed"`, and `vos_umec.device.multiplies_bf16` says whether it pays.

    To change a part, override one hook: `build_network`, `build_objectives`, `segmentation_step` or
    `configure_optimizers`.

    Args:
        network: A preset's name: "resnet18", "resnet50", "compact" or "tiny"; or "propagation" for an encoder
            alone, which carries masks along its affinity and trains on correspondence only.
        network_args: Changes to the preset, by part, as {"encoder": {"key_dim": 64}}; or an encoder of
            one's own, which "propagation" needs, as
            {"encoder": {"class_path": "vos_umec.TimmEncoder", "init_args": {"name": "convnext_tiny"}}}.
        objectives: class_path dictionaries of the correspondence objectives, whose losses are added; None for
            EquivarianceObjective alone.
        warmup_epochs: Epochs of correspondence only, before the first clustering.
        max_objects: K at most, pseudo objects drawn for each clip.
        queries: Query frames a clip on which L_seg is taken.
        references: N at most in training: the first frame and the query frames before, so never above `queries`.
        rounds: Refinement rounds unrolled in training.
        own_mask_probability: Probability that a later reference carries the network's own prediction (open in the paper).
        iou_weight: Weight of 1 - IoU beside the cross-entropy of L_seg.
        joint: Whether E learns on, from L_seg and L_corr, once there are pseudo masks, as the paper trains. If
            not, it stays as correspondence alone made it, in evaluation mode as inference has it, and only V and D
            learn: several times as many steps a minute.
        readout: Settings of Readout, how training reads its references: {"top_k": 10, "radius": 12,
            "permanent_radius": 30} as inference does; None for all of their cells (UMEC eq. 4 as it stands).
        tau: Temperature of the affinity.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW, not on biases and norms.
        halve_every: The learning rate is halved every so many epochs.
        segmenter: Arguments of VideoSegmenter for validation, test and prediction, or {"protocol": "crw"} and what
            differs from the protocol.
        baselines: In `test`, score also copying the first mask and label propagation.
        gradient_checkpointing: Compute the activations of E's and V's trunks again for the gradients, which stay
            the same, rather than keep them: less memory for more time.
        encoder_weights: A published ResNet file from which the encoder's trunk starts (models/published.py).
        weights_used_labels: Whether labels were used to train it; must be given with it.
        init_from: A checkpoint or model file of the same network, from whose weights training starts; "shipped"
            for the model that comes with this package.
        init_parts: The parts of it that do, of "encoder", "mask_encoder" and "decoder"; None for all.

    Raises:
        ConfigError: If a part cannot be built from its arguments.

    Example:
        >>> module = UMECModule(network="tiny", learning_rate=1e-3)
        >>> module.hparams["learning_rate"], module.network.stride
        (0.001, 4)
    """

    def __init__(
        self,
        network: str = "resnet18",
        network_args: dict[str, Any] | None = None,
        objectives: list[dict[str, Any]] | None = None,
        warmup_epochs: int = 10,
        max_objects: int = 3,
        queries: int = 3,
        references: int = 3,
        rounds: int = 2,
        own_mask_probability: float = 0.5,
        iou_weight: float = 0.0,
        freeze_encoder: bool = False,
        readout: dict[str, Any] | None = None,
        tau: float = 0.05,
        learning_rate: float = 1e-4,
        weight_decay: float = 5e-4,
        halve_every: int = 100,
        segmenter: dict[str, Any] | None = None,
        baselines: bool = True,
        gradient_checkpointing: bool = False,
        encoder_weights: str | None = None,
        weights_used_labels: bool | None = None,
        init_from: str | None = None,
        init_parts: list[str] | None = None,
    ) -> None:
        super().__init__()
        least = {"max_objects": max_objects, "queries": queries, "references": references}
        if wrong := {name: value for name, value in least.items() if value < 1}:
            raise ConfigError(f"{wrong}: expected 1 or more of each")
        if tau <= 0:
            raise ConfigError(f"tau must be above 0; found {tau}")
        self.save_hyperparameters()
        # Channels last: bf16 convolutions take a third less time in it.
        self.network = self.build_network().to(memory_format=torch.channels_last)
        if freeze_encoder and not isinstance(self.network, UMEC):
            raise ConfigError(
                f"freeze_encoder is true with network {network!r}: an encoder alone has nothing to learn while it rests; "
                "give freeze_encoder: false"
            )
        if encoder_weights is not None:
            declare_weights(encoder_weights, weights_used_labels)
            if weights_are_wanted() and init_from is None:
                load_published(self.network.encoder, encoder_weights)
        if init_parts is not None and init_from is None:
            raise ConfigError(f"init_parts {init_parts} of what? give init_from, a checkpoint or model file")
        if init_from is not None and weights_are_wanted():
            load_own_weights(self.network, init_from, init_parts)
        if gradient_checkpointing:
            keep_block_inputs_only(self.network)
        self.objectives = nn.ModuleList(self.build_objectives())
        self._idle: set[str] | None = None  # of E and V and D, what had no part since the optimizer's last step
        self._readout = ALL_CELLS if readout is None else Readout.of(readout)

    # --- hooks to override -------------------------------------------------------------------------------------

    def build_network(self) -> PropagationNetwork:
        """The network, randomly initialised: a UMEC, or an encoder alone."""
        changes, tau = dict(self.hparams["network_args"] or {}), self.hparams["tau"]
        own = None
        if "class_path" in changes.get("encoder", {}):
            own = cast(Encoder, instantiate(changes.pop("encoder"), nn.Module))
        if self.hparams["network"] != "propagation":
            return network_from_preset(self.hparams["network"], tau, own, **changes)
        if own is None or changes:
            raise ConfigError(
                "network 'propagation' is one encoder by its class, network_args: {encoder: {class_path: "
                f"vos_umec.TrunkEncoder}}}}; found network_args {self.hparams['network_args']}"
            )
        return PropagationNetwork(own, tau)

    def build_objectives(self) -> list[CorrespondenceObjective]:
        """The correspondence objectives, whose sum is L_corr; one that takes `key_dim` is given that of E."""
        specs = self.hparams["objectives"] or [{"class_path": "vos_umec.EquivarianceObjective"}]
        # An ABC is a fine bound for issubclass, whatever the type checker says of it.
        return [
            instantiate(spec, CorrespondenceObjective, key_dim=self.network.encoder.key_dim)  # type: ignore[type-abstract]
            for spec in specs
        ]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, the rate halved every `halve_every` epochs, no decay on biases and norms."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for p in parameters if p.dim() > 1],
                    "weight_decay": self.hparams["weight_decay"],
                },
                {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
            ],
            lr=self.hparams["learning_rate"],
        )
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, self.hparams["halve_every"], gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def segmentation_step(self, clip: EncodedClip, segments: Tensor) -> Tensor | None:
        """L_seg of a batch (UMEC section 2).

        Args:
            clip: Encoded clips.
            segments: Pseudo masks (B, T, H, W) uint8, 255 where nothing is known.

        Returns:
            The loss, or None where no clip of any process has a segment fit to be an object, or the network is an
            encoder alone.
        """
        if not isinstance(self.network, UMEC):
            return None
        hp = self.hparams
        T = segments.shape[1]
        later = torch.randperm(T - 1)[: hp["queries"]].sort().values + 1
        chosen = [0, *later.tolist()]
        masks, valid = choose_targets(segments, hp["max_objects"])  # (B, T, K, H, W), (B, K)
        rows = valid.any(dim=1).nonzero()[:, 0]  # clips with an object
        if not on_any_rank(len(rows) > 0, rows.device):
            return None
        if len(rows) == 0:  # the other ranks' synchronised batch norms wait for this one's: a loss of 0
            rows = rows.new_zeros(1)
        cells = (rows[:, None] * T + torch.tensor(chosen, device=rows.device)).flatten()
        masks, valid = masks[rows][:, chosen].float(), valid[rows]
        known = segments[rows][:, chosen] != 255  # (B', T', H, W)
        outputs = propagate_masks(
            self.network,
            clip.frames[rows][:, chosen],
            clip.features[cells],
            masks,
            valid,
            hp["rounds"],
            hp["references"],
            hp["own_mask_probability"],
            self._readout,
        )
        losses = [
            segmentation_loss(logits, masks[:, q], valid, known[:, q], hp["iou_weight"])
            for q, rounds in enumerate(outputs, start=1)
            for logits in rounds
        ]
        return torch.stack(losses).mean()

    # --- Lightning ---------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Tell now what would fail later; processes that were seeded alike shall not crop, warp and draw alike."""
        check_training(self.trainer, self.network, self.hparams["segmenter"], self.hparams["freeze_encoder"])
        if self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L = L_seg + L_corr on a batch of clips; L_seg alone where E rests."""
        check_size(batch["frames"], self.network.stride)
        # On all ranks or on none: only one of them may have clips whose video has pseudo masks.
        rests = self.hparams["freeze_encoder"] and on_any_rank(_has_masks(batch), self.device)
        self.network.encoder.train(not rests)
        clip = EncodedClip(self.network.encoder, batch["frames"], batch["frame_indices"])
        loss = clip.frames.new_zeros(())
        if rests:
            with torch.no_grad():
                _ = clip.features  # made once, here
        else:
            for objective in self.objectives:
                parts = objective(clip)
                loss = loss + parts.pop("loss")
                self.log_dict({f"train/{name}": part for name, part in parts.items()})
        segmentation = self.segmentation_step(clip, batch["segments"]) if "segments" in batch else None
        if segmentation is not None:
            self.log("train/seg", segmentation)
            loss = loss + segmentation
        if self.trainer.world_size > 1 or not loss.requires_grad:
            # DDP wants a gradient for every parameter on every rank, also where it had no part; backward wants one.
            loss = loss + 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        idle = {"E"} if rests else set()
        if not on_any_rank(segmentation is not None, self.device):
            idle.add("V and D")
        self._idle = idle if self._idle is None else self._idle & idle  # several batches may share a step
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """What had no part in the steps since the last one: weight decay and momentum shall not move it either."""
        of_correspondence = {*self.network.encoder.parameters(), *self.objectives.parameters()}
        for p in self.parameters():
            if ("E" if p in of_correspondence else "V and D") in (self._idle or ()):
                p.grad = None
        self._idle = None

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Self:
        """As LightningModule's; weights that an encoder once started from are not asked for again."""
        with weights_from_checkpoint():
            return super().load_from_checkpoint(*args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the name of this class; the command line's own traces would tie the settings to its parser."""
        checkpoint[MODULE_CLASS] = f"{type(self).__module__}.{type(self).__qualname__}"
        for trace in ("_instantiator", "_class_path"):
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY].pop(trace, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in one line what does not fit, before torch lists every tensor."""
        check_fits(checkpoint["state_dict"], self.state_dict())


def _has_masks(batch: Batch) -> bool:
    return "generation" in batch and bool(batch["generation"].any())
