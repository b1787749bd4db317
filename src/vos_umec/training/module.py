"""UMECModule, the thin LightningModule around the network and its losses."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from vos_umec.data.clips import seed_draws
from vos_umec.data.sequences import VideoSequence
from vos_umec.distributed import number_of_processes, on_any_rank
from vos_umec.errors import ConfigError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.metrics.results import print_table
from vos_umec.models.description import KEY, Description
from vos_umec.models.factory import NetworkSettings, build_network, instantiate
from vos_umec.models.model_file import initialize
from vos_umec.models.umec import UMEC, PropagationNetwork
from vos_umec.models.weights import check_fits
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.segmentation import SegmentationObjective
from vos_umec.progress import progress
from vos_umec.training.callbacks.finite_loss import FiniteLoss
from vos_umec.training.checkpoint_files import finish_epoch
from vos_umec.training.evaluation import (
    WHOLE,
    EvaluationSettings,
    SequenceEvaluation,
    save_scores,
    score_table,
    write_masks,
)
from vos_umec.training.optimizer import adam, scale_rates
from vos_umec.training.pictures import log_frames
from vos_umec.training.several_ranks import FailTogether, prepare_strategy

log = logging.getLogger(__name__)

Batch = dict[str, Any]
_T = TypeVar("_T")


class UMECModule(LightningModule):
    """Trains UMEC on clips of unlabelled video, L = L_seg + L_corr, and scores it on annotated ones.

    Correspondence is learned from the first step. L_seg is added once a batch has pseudo masks, which the callback
    `PseudoMaskRefresh` makes. A training batch is a dictionary, as every `ClipDataModule` makes it: "frames"
    (B, T, 3, H, W) normalised, "frame_indices" (B, T), and with pseudo masks "segments" (B, T, H, W) uint8.

    All arguments are plain values, so that a checkpoint rebuilds its module alone:
    `UMECModule.load_from_checkpoint(path)`. To change a part, override one hook: `build_network`,
    `build_objectives`, `correspondence_step`, `segmentation_step` or `configure_optimizers`.

    Args:
        network: A preset's name ("resnet18", "resnet50", "compact", "tiny") or a mapping, see `build_network`.
        objectives: The correspondence objectives, whose losses are added, each as {"class_path": ...,
            "init_args": {...}}; None for EquivarianceObjective alone. One with a `key_dim` argument gets E's.
        segmentation: Settings of L_seg, see `SegmentationObjective`; None for its defaults.
        evaluation: Settings of validation, test and prediction, see `EvaluationSettings`; None for its defaults.
        freeze_encoder: Train E on correspondence alone, and freeze it once there are pseudo masks: then only V and
            D learn, several times as many steps a minute. If not, E learns from L_seg too, as in the paper.
        init_from: Weights that training starts from: a file, "shipped", or a mapping, see `initialize`. It is not
            among the hyperparameters: a checkpoint holds all weights, and a record of where they came from.
        learning_rate: Of Adam.
        weight_decay: Of Adam, not on biases and norms.
        halve_every: Epochs after which the learning rate is halved, again and again.
        betas: Decay rates of Adam's two moments.
        decoupled_decay: Decay weights apart from the gradients (AdamW). If not, the decay is an L2 penalty, which
            Adam scales like any gradient: the same number then decays much more.
        mask_phase_rate: Factor of all learning rates from the first pseudo masks on.

    Attributes:
        network: The network, a UMEC, or a PropagationNetwork where it is an encoder alone.
        started_from: Record of the weights that training started from, oldest first; empty for random ones.
        written: The picture or folder that `test` or `predict` wrote last.

    Raises:
        ConfigError: If a part cannot be built from its arguments.

    Example:
        >>> module = UMECModule(network="tiny", segmentation={"queries": 1}, learning_rate=1e-3)
        >>> module.hparams["learning_rate"], module.segmentation.queries, module.network.stride
        (0.001, 1, 4)
    """

    network: PropagationNetwork

    def __init__(
        self,
        network: str | NetworkSettings | dict[str, Any] = "resnet18",
        objectives: list[dict[str, Any]] | None = None,
        segmentation: SegmentationObjective | dict[str, Any] | None = None,
        evaluation: EvaluationSettings | dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        init_from: str | dict[str, Any] | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 5e-4,
        halve_every: int = 100,
        betas: tuple[float, float] = (0.9, 0.999),
        decoupled_decay: bool = True,
        mask_phase_rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.segmentation = _settings(SegmentationObjective, segmentation, "segmentation")
        self.evaluation = _settings(EvaluationSettings, evaluation, "evaluation")
        network = asdict(network) if isinstance(network, NetworkSettings) else network
        segmentation, evaluation = asdict(self.segmentation), asdict(self.evaluation)  # plain, as they are saved
        self.save_hyperparameters(ignore=["init_from"])
        # A subclass that passes settings on as **kwargs has saved them as it was given them, objects too.
        self.hparams.update(network=network, segmentation=segmentation, evaluation=evaluation)
        # Channels last: bf16 convolutions take a third less time in it.
        self.network = self.build_network().to(memory_format=torch.channels_last)
        if freeze_encoder and not isinstance(self.network, UMEC):
            raise ConfigError(
                f"freeze_encoder is true with network {network!r}: an encoder alone would have nothing left to "
                "learn; give freeze_encoder: false"
            )
        self.started_from = [] if init_from is None else initialize(self.network, init_from)
        self.network.description = self.description()  # for `module.network.save_pretrained(FOLDER)`
        self.objectives = nn.ModuleList(self.build_objectives())
        self._mask_phase = False
        self.encoder_frozen = False
        self._frozen: list[nn.Parameter] = []  # they learn again in the next training
        self._pairs_checked = False
        self._seed = torch.initial_seed()
        self.written: Path | None = None

    # --- hooks to override -------------------------------------------------------------------------------------

    def build_network(self) -> PropagationNetwork:
        """The network, randomly initialised."""
        return build_network(self.hparams["network"])

    def build_objectives(self) -> list[CorrespondenceObjective]:
        """The correspondence objectives, whose sum is L_corr."""
        specs = self.hparams["objectives"] or [{"class_path": "vos_umec.EquivarianceObjective"}]
        key_dim = self.network.encoder.key_dim
        return [instantiate(spec, CorrespondenceObjective, key_dim=key_dim) for spec in specs]  # type: ignore[type-abstract]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, the rate halved every `halve_every` epochs, no decay on biases and norms."""
        hp = self.hparams
        settings = ("learning_rate", "weight_decay", "betas", "decoupled_decay")
        optimizer = adam(self.parameters(), **{name: hp[name] for name in settings})
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, hp["halve_every"], gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def correspondence_step(self, clip: EncodedClip) -> Tensor:
        """L_corr of a batch, the sum of all objectives; their terms are logged."""
        losses = []
        for objective in self.objectives:
            terms = objective(clip)
            if "loss" not in terms:
                raise ConfigError(f'{type(objective).__name__} returned {", ".join(terms)}; expected also "loss"')
            losses.append(terms.pop("loss"))
            self.log_dict({f"train/{name}": term for name, term in terms.items()})
        return torch.stack(losses).sum()

    def segmentation_step(self, clip: EncodedClip, segments: Tensor) -> Tensor | None:
        """L_seg of a batch (UMEC section 2).

        Args:
            clip: Encoded clips.
            segments: Pseudo masks (B, T, H, W) uint8, 255 where nothing is known.

        Returns:
            The loss, or None where no clip of any process has a segment of a size fit to be an object, or the
            network is an encoder alone.
        """
        return self.segmentation(self.network, clip, segments) if isinstance(self.network, UMEC) else None

    # --- training ----------------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[Callback]:
        """End the run when a loss is not finite; have all ranks end when one fails."""
        together = [FailTogether.started(self.trainer)] if self.trainer.world_size > 1 else []
        return [FiniteLoss(), *together]

    def setup(self, stage: str) -> None:
        """Fit the strategy to this training, and refuse those that shard the network; E learns, from its start."""
        prepare_strategy(self.trainer.strategy, stage)
        if stage == "fit":  # here, because DDP, which wraps the module next, leaves out what is frozen
            for parameter in self._frozen:
                parameter.requires_grad_(True)
            self._mask_phase, self.encoder_frozen, self._frozen = False, False, []
            self._seed = torch.initial_seed()  # that of a resumed run comes with its checkpoint, which is read next

    def on_fit_start(self) -> None:
        """Refuse settings that would fail later."""
        self._check_training()
        self._pairs_checked = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the draws of this step, begin the mask phase if it is due, and once log how far apart pairs are."""
        epoch = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        seed_draws(self._seed, self.global_rank, epoch, batch_idx)
        self._begin_mask_phase_if_due(batch)
        if self._pairs_checked:
            return
        self._pairs_checked = True
        if self.encoder_frozen or batch["frame_indices"].shape[1] == 1:  # an objective knows if one frame will do
            return
        for objective in self.objectives:
            pairs = cast(CorrespondenceObjective, objective).describe_pairs(batch["frame_indices"])
            if self.trainer.is_global_zero:
                log.info("first batch: %s", pairs)

    def _begin_mask_phase_if_due(self, batch: Batch) -> None:
        """Scale the learning rates and freeze E, where that is set, once pseudo masks are in force.

        They are in force when the store has some; for data without a store, when a batch has some.
        """
        freezes, rate = self.hparams["freeze_encoder"], self.hparams["mask_phase_rate"]
        if self._mask_phase or not (freezes or rate != 1):
            return
        store = getattr(getattr(self.trainer, "datamodule", None), "store", None)
        if store is not None:
            self._mask_phase = store.generation > 0
        else:
            self._mask_phase = on_any_rank("segments" in batch, self.device)
        if self._mask_phase:
            scale_rates(self.trainer, rate)
            if freezes:
                self._freeze_encoder()

    def _freeze_encoder(self) -> None:
        learning = [*self.network.encoder.parameters(), *self.objectives.parameters()]
        self._frozen = [parameter for parameter in learning if parameter.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        self.encoder_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As torch's; a frozen E stays in evaluation mode, as it will be in inference."""
        super().train(mode)
        if self.encoder_frozen:
            self.network.encoder.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """L = L_corr + L_seg of a batch; L_seg alone with a frozen E; None or 0 where there is neither."""
        _check_size(batch["frames"], self.network.stride)
        clip = EncodedClip(self.network.encoder, batch["frames"], batch["frame_indices"])
        losses = [] if self.encoder_frozen else [self.correspondence_step(clip)]
        if "segments" in batch and (segmentation := self.segmentation_step(clip, batch["segments"])) is not None:
            self.log("train/seg", segmentation)
            losses.append(segmentation)
        if not losses and number_of_processes() > 1:  # where Lightning refuses to skip a step
            losses.append(0 * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum())
        if not losses:
            return None
        loss = torch.stack(losses).sum()
        self.log("train/loss", loss)  # not with prog_bar=True: Lightning would read it, and wait, after every step
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description by which files are loaded without Lightning."""
        checkpoint[KEY] = asdict(self.description())
        checkpoint["seed"] = self._seed
        for trace in ("_instantiator", "_class_path"):  # the command line's, which tie settings to its parser
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY].pop(trace, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Report in one line what does not fit, before torch lists every tensor; take over the run's seed."""
        finish_epoch(checkpoint)
        check_fits(checkpoint["state_dict"], self.state_dict())
        self.started_from = checkpoint.get(KEY, {}).get("started_from", [])
        self.network.description = self.description()
        self._seed = checkpoint.get("seed", self._seed)

    def description(self) -> Description:
        """The description of this module for its files, see `write_model`."""
        builds_its_own = type(self).build_network is not UMECModule.build_network
        return Description(
            network=None if builds_its_own else self.hparams["network"],
            segmenter=self.evaluation.segmenter or {},
            started_from=self.started_from,
            module_class=f"{type(self).__module__}.{type(self).__qualname__}",
        )

    def _check_training(self) -> None:
        if self.evaluation.segmenter:
            SequenceEvaluation(self.network, self.evaluation.segmenter, baselines=False)
        dtype = next(self.network.parameters()).dtype
        if dtype != torch.float32:
            raise ConfigError(
                f"the weights are {dtype}, as trainer.precision {self.trainer.precision} has them; expected fp32: "
                "give precision bf16-mixed or 16-mixed, which compute in half precision where that is safe"
            )
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        averaging = any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks)
        if self.hparams["freeze_encoder"] and averaging:
            raise ConfigError(
                "StochasticWeightAveraging computes the running statistics of all batch norms anew, and those of a "
                "frozen encoder would stay empty; give EMAWeightAveraging, or freeze_encoder: false"
            )

    # --- validation, test, prediction --------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Start a fresh score."""
        self._scores = self._evaluation(baselines=False)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # here and below: it reads and writes files
    def validation_step(self, batch: VideoSequence, batch_idx: int) -> None:
        """Segment and score one annotated sequence."""
        self._scores.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log J&F under the name of the split; `validation.png` in the run's folder shows it."""
        self._log_scores()
        self._scores.sheet.save(self._folder() / "validation.png")
        if not self.trainer.sanity_checking:
            log_frames(self.trainer, self._split(), self._scores.frames, self._folder())

    def on_test_epoch_start(self) -> None:
        """Start a fresh score, with the baselines beside it."""
        self._scores = self._evaluation(self.evaluation.baselines, extremes=True)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def test_step(self, batch: VideoSequence, batch_idx: int) -> None:
        """Segment and score one annotated sequence."""
        self._scores.update(batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores, print them by object, and write `results.png`, `scores/METHOD.json` and `overlays`."""
        self._log_scores()
        # On every rank, as the next two: they gather
        rows, curves, folder = self._scores.rows(), self._scores.gathered_curves(), self._folder()
        self.written = self._scores.sheet.save(folder / "results.png")
        log_frames(self.trainer, self._split(), self._scores.frames, folder)
        if self.trainer.is_global_zero:
            print_table(score_table(rows))
            save_scores(rows, folder / "scores", curves)

    def on_predict_start(self) -> None:
        """Find the folder to write to, once, on every rank: they may have different numbers of sequences."""
        self.written = self._folder() / "predictions"

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def predict_step(self, batch: VideoSequence, batch_idx: int) -> None:
        """Write one sequence's masks to `predictions/<sequence>/<frame>.png` in the run's folder."""
        segmenter = VideoSegmenter.from_protocol(self.network, **(self.evaluation.segmenter or {}))
        write_masks(segmenter, batch, cast(Path, self.written), self._watched)

    def _folder(self) -> Path:
        """The run's folder. Call it on every rank: the first one sends it to the others, and waits for them."""
        return Path(self.trainer.log_dir or self.trainer.default_root_dir)

    def _evaluation(self, baselines: bool, extremes: bool = False) -> SequenceEvaluation:
        return SequenceEvaluation(self.network, self.evaluation.segmenter or {}, baselines, extremes, self._watched)

    def _watched(self, frames: Iterable[_T], what: str, total: int) -> Iterable[_T]:
        """The frames of a sequence, with their progress where the Trainer shows its own."""
        hidden = self.trainer.progress_bar_callback is None or not self.trainer.is_global_zero
        return progress(frames, what, total, show=not hidden)

    def _split(self) -> str:
        return getattr(getattr(self.trainer, "datamodule", None), "split_name", "val")

    def _log_scores(self) -> None:
        split = self._split()
        for method, scores in self._scores.compute().items():
            if method == self._scores.main and self.trainer.is_global_zero:
                log.info("J&F %.1f %% on %s", 100 * scores["J&F"], split)
            places = [split] if method == self._scores.main else []
            if method != WHOLE:
                places.append(f"{split}/{method}")
            for place in places:
                # The same on all ranks; each needs them, for a callback that monitors one.
                self.log_dict({f"{place}/{name}": value for name, value in scores.items()}, sync_dist=True)


def _settings(cls: type[_T], value: _T | Mapping[str, Any] | None, name: str) -> _T:
    """Settings from a mapping, as YAML, notebooks and checkpoints have them."""
    if isinstance(value, cls):
        return value
    try:
        return cls(**cast(Mapping[str, Any], value or {}))
    except TypeError as error:
        known = ", ".join(field.name for field in fields(cls))  # type: ignore[arg-type]
        raise ConfigError(f"{name} {value}: {error}; its settings are {known}") from error


def _check_size(frames: Tensor, stride: int) -> None:
    """Refuse frames of no whole cells: they would fail only when L_seg begins, and shift transformed features."""
    H, W = frames.shape[-2:]
    if H % stride or W % stride:
        raise ConfigError(
            f"clips have {H} x {W} pixels, and the encoder's cells are {stride} wide: give a crop (data.crop) that "
            f"is a multiple of {stride}, such as {H - H % stride or stride}"
        )
