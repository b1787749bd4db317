from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.callbacks import StochasticWeightAveraging

from vos_umec import (
    CorrespondenceObjective,
    EncodedClip,
    SyntheticDataModule,
    TimeBudget,
    UMECModule,
    load,
)
from vos_umec.errors import CheckpointError, ConfigError
from vos_umec.models.factory import NetworkSettings, instantiate
from vos_umec.objectives import SegmentationObjective


class Stillness(CorrespondenceObjective):
    """A toy that wants every frame to have the first one's keys."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, clip):
        return {"loss": self.weight * (clip.keys[:, 1:] - clip.keys[:, :1]).square().mean()}


STILL = {"class_path": f"{__name__}.Stillness", "init_args": {"weight": 2.0}}


def clip(module, T=4):
    return EncodedClip(module.network.encoder, torch.rand(2, T, 3, 32, 32), torch.arange(T).expand(2, T))


def squares(T=4):
    segments = torch.zeros(2, T, 32, 32, dtype=torch.uint8)
    for t in range(T):
        segments[:, t, 4 : 4 + 16, 2 * t : 2 * t + 16] = 1
    return segments


def test_objectives_are_built_from_plain_values():
    module = UMECModule(network="tiny", objectives=[STILL, {"class_path": "vos_umec.EquivarianceObjective"}])
    assert [type(objective).__name__ for objective in module.objectives] == ["Stillness", "EquivarianceObjective"]
    assert module.objectives[0].weight == 2.0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"class_path": "vos_umec.Nothing"}, "names no class that can be imported"),
        ({"class_path": "no.such.Module"}, "names no class that can be imported"),
        ({"class_path": "vos_umec.UMEC"}, "must name a subclass of CorrespondenceObjective"),
        ({"class_path": STILL["class_path"], "init_args": {"wait": 1}}, "its arguments are: weight"),
        ({"init_args": {}}, "expected a mapping with 'class_path'"),
        ({**STILL, "args": {}}, "unknown keys"),
    ],
)
def test_a_wrong_class_path_says_what_is_wrong(spec, words):
    with pytest.raises(ConfigError, match=words):
        instantiate(spec, CorrespondenceObjective)


def test_segmentation_learns_to_carry_a_square():
    """A few steps on one batch lower L_seg, and the last round beats the coarse mask."""
    torch.manual_seed(0)
    module = UMECModule("tiny", segmentation={"max_objects": 1, "queries": 1, "own_mask_probability": 0.0})
    frames = torch.rand(2, 4, 3, 32, 32)
    segments = squares()
    frames[segments[:, :, None].expand_as(frames) == 1] += 1.5
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        encoded = EncodedClip(module.network.encoder, frames, torch.arange(4).expand(2, 4))
        loss = module.segmentation_step(encoded, segments)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])  # each step draws its own query frame


def test_without_a_fit_segment_there_is_no_segmentation_loss():
    module = UMECModule(network="tiny")
    assert module.segmentation_step(clip(module), torch.full((2, 4, 32, 32), 255, dtype=torch.uint8)) is None
    assert module.segmentation_step(clip(module), torch.zeros(2, 4, 32, 32, dtype=torch.uint8)) is None  # all of it


def test_clips_without_masks_do_not_change_the_loss_of_the_others():
    """Batch norm aside, a clip of unknown segments is left out."""
    module = UMECModule(
        "tiny", segmentation={"max_objects": 1, "queries": 1, "own_mask_probability": 0.0, "references": 1}
    ).eval()
    encoded, segments = clip(module), squares()
    torch.manual_seed(5)
    both = module.segmentation_step(encoded, segments)
    segments[1] = 255
    torch.manual_seed(5)
    one = module.segmentation_step(encoded, segments)
    first = EncodedClip(module.network.encoder, encoded.frames[:1], encoded.frame_indices[:1])
    torch.manual_seed(5)
    alone = module.segmentation_step(first, segments[:1])
    torch.testing.assert_close(one, alone)
    assert not torch.allclose(one, both)


class Store:
    """What a module asks of a data module's pseudo masks."""

    generation = 0


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stands_still_once_pseudo_masks_are_in_force(freeze):
    """Not one weight or statistic of E moves, momentum and weight decay or not; V and D learn."""
    torch.manual_seed(0)
    module = UMECModule(
        "tiny", objectives=[STILL], segmentation={"max_objects": 1}, freeze_encoder=freeze, learning_rate=1e-2
    )
    module.log = module.log_dict = lambda *args, **kwargs: None
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.trainer.datamodule = SimpleNamespace(store=Store())
    optimizer = module.configure_optimizers()["optimizer"]
    batch = {"frames": torch.rand(2, 4, 3, 32, 32), "frame_indices": torch.arange(4).expand(2, 4)}
    unknown = torch.full((2, 4, 32, 32), 255, dtype=torch.uint8)

    def step(segments, generation):
        module.trainer.datamodule.store.generation = generation
        module.train()
        shown = {**batch, "segments": segments}
        module.on_train_batch_start(shown, 0)
        before = {name: x.clone() for name, x in module.network.state_dict().items()}
        loss = module.training_step(shown, 0)
        optimizer.zero_grad()
        if loss is not None:
            loss.backward()
        optimizer.step()
        after = module.network.state_dict()
        return {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}

    assert step(unknown, generation=0) == {"encoder"}  # V and D do not even decay
    assert step(unknown, generation=1) == (set() if freeze else {"encoder"})
    moved = step(squares(), generation=1)
    assert {"mask_encoder", "decoder"} <= moved
    assert ("encoder" in moved) != freeze


def test_a_crop_of_cut_cells_is_told_at_the_first_step():
    batch = {"frames": torch.rand(1, 3, 3, 50, 48), "generation": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"50 x 48.* 4 .*data\.crop.* 48"):
        UMECModule(network="tiny").training_step(batch, 0)


@pytest.mark.parametrize(
    ("options", "callbacks", "told"),
    [
        ({"precision": "bf16-true"}, [], "bf16-true.*bf16-mixed"),
        ({}, [StochasticWeightAveraging(1e-3)], "StochasticWeightAveraging.*EMAWeightAveraging"),
    ],
)
def test_what_would_harm_later_is_refused_at_the_start(options, callbacks, told, tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=callbacks, **options)
    with pytest.raises(ConfigError, match=told):
        trainer.fit(UMECModule(network="tiny", freeze_encoder=True), torch.utils.data.DataLoader([0]))


@pytest.mark.xfail(
    tuple(int(number) for number in torch.__version__.split(".")[:2]) < (2, 13),
    reason="torch.compile of a method that is exempt from it loses the method's object",
    raises=TypeError,
    strict=False,
)
def test_a_compiled_module_validates(tmp_path):
    """Lightning compiles validation_step, too, and dynamo would follow it into decord and the metrics."""
    data = SyntheticDataModule(str(tmp_path), train_videos=1, val_videos=1, frames=4, size=(96, 128))
    module = UMECModule(
        network="tiny",
        evaluation={"segmenter": {"rounds": 1, "references": 2, "readout": {"radius": 4, "top_k": 4}}},
    )
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    [scores] = trainer.validate(torch.compile(module, backend="eager"), data, verbose=False)
    assert 0 < scores["val/J&F"] <= 1


def test_an_encoder_alone_cannot_be_frozen():
    alone = {"encoder": {"class_path": "vos_umec.TrunkEncoder", "init_args": {"blocks": [1, 1], "strides": [1, 1]}}}
    assert not UMECModule(alone).hparams["freeze_encoder"]
    with pytest.raises(ConfigError, match="freeze_encoder: false"):
        UMECModule(alone, freeze_encoder=True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"segmentation": {"round": 2}}, "segmentation .*rounds"),
        ({"segmentation": {"queries": 0}}, "queries"),
        ({"evaluation": {"segmenters": {}}}, "evaluation .*segmenter"),
        ({"init_from": {"file": "a"}}, "init_from"),
    ],
)
def test_wrong_settings_name_themselves_and_what_there_is(wrong, words):
    with pytest.raises(ConfigError, match=words):
        UMECModule("tiny", **wrong)


def test_hooks_can_be_overridden():
    class Own(UMECModule):
        def build_objectives(self):
            return [Stillness()]

    assert isinstance(Own(network="tiny").objectives[0], Stillness)


def test_a_missing_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"no\.ckpt"):
        load(tmp_path / "no.ckpt")


class Passing(UMECModule):
    """Passes settings on, as subclasses do."""

    def __init__(self, extra: int = 1, **settings) -> None:
        super().__init__(**settings)


def test_settings_as_objects_and_paths_leave_checkpoints_of_plain_values(tmp_path):
    start = tmp_path / "start.ckpt"
    save(UMECModule("tiny"), start)
    module = Passing(
        network=NetworkSettings(preset="tiny"),
        segmentation=SegmentationObjective(max_objects=1),
        init_from={"path": start, "parts": ["encoder"]},
    )
    save(module, tmp_path / "a.ckpt")
    again = Passing.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.segmentation.max_objects == 1
    assert again.started_from == [{"path": str(start), "parts": ["encoder"]}]


def save(module, path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


class OwnData(LightningDataModule):
    """A data module without a store of pseudo masks."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.masks = masks

    def train_dataloader(self):
        clip = {"frames": torch.rand(4, 3, 32, 32), "frame_indices": torch.arange(4)}
        return torch.utils.data.DataLoader([clip | ({"segments": squares()[0]} if self.masks else {})] * 2, 2)


def test_without_a_store_the_encoder_learns_until_a_batch_has_masks_and_again_in_the_next_training(tmp_path):
    module = UMECModule("tiny", objectives=[STILL], segmentation={"max_objects": 1}, freeze_encoder=True)

    def moved(masks):
        before = {name: x.clone() for name, x in module.network.named_parameters()}
        trainer = Trainer(accelerator="cpu", logger=False, max_epochs=1, default_root_dir=tmp_path,
                          enable_checkpointing=False, enable_progress_bar=False)  # fmt: skip
        trainer.fit(module, OwnData(masks))
        return {
            name.split(".")[0] for name, x in module.network.named_parameters() if not torch.equal(x, before[name])
        }

    assert moved(masks=False) == {"encoder"}
    assert moved(masks=True) == {"mask_encoder", "decoder"}
    assert moved(masks=False) == {"encoder"}


class Phases(Callback):
    """Puts pseudo masks in force after two epochs, as a refresh does, and notes the rate of each step."""

    def __init__(self):
        self.rates = []

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.datamodule.store.generation = int(trainer.current_epoch >= 1)

    def on_before_zero_grad(self, trainer, pl_module, optimizer):  # after the step
        self.rates.append(optimizer.param_groups[1]["lr"])


class Warming(UMECModule):
    """A schedule that starts from its own rates at every epoch."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(()))]})
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5 ** (epoch // 3))]


def fit_phases(tmp_path, module, epochs, ckpt_path=None, callbacks=(), generation=0):
    data, phases = OwnData(masks=True), Phases()
    data.store = Store()
    data.store.generation = generation
    trainer = Trainer(
        accelerator="cpu", logger=False, max_epochs=epochs, callbacks=[phases, *callbacks],
        default_root_dir=tmp_path, enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer, phases.rates


@pytest.mark.parametrize("cls", [UMECModule, Warming])
def test_the_mask_phase_has_its_rate_in_a_resumed_run_too(cls, tmp_path):
    settings = {"objectives": [STILL], "segmentation": {"max_objects": 1, "queries": 1, "rounds": 1}}
    settings |= {"learning_rate": 1.0, "halve_every": 3, "mask_phase_rate": 0.1}
    expected = [1.0, 1.0, 0.1, 0.05, 0.05, 0.05]  # lower from the third epoch on, halved after the third
    _, rates = fit_phases(tmp_path, cls("tiny", **settings), 6)
    assert rates == pytest.approx(expected)
    for epochs in (2, 4):  # stopped just before the phase begins, and in it
        trainer, _ = fit_phases(tmp_path, cls("tiny", **settings), epochs)
        trainer.save_checkpoint(tmp_path / "half.ckpt")
        _, rates = fit_phases(tmp_path, cls("tiny", **settings), 6, tmp_path / "half.ckpt", generation=1)
        assert rates == pytest.approx(expected[epochs:])


def test_the_rate_of_the_mask_phase_holds_within_a_budget_of_time(tmp_path):
    module = UMECModule("tiny", objectives=[STILL], segmentation={"max_objects": 1}, mask_phase_rate=0.1)
    _, rates = fit_phases(tmp_path, module, 4, callbacks=[TimeBudget(minutes=1000, warmup=0.0)])
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5], rel=1e-3)


def test_an_objective_without_a_loss_is_named():
    class Forgetful(CorrespondenceObjective):
        def forward(self, clip):
            return {"los": clip.keys.mean()}

    module = UMECModule("tiny")
    module.objectives = torch.nn.ModuleList([Forgetful()])
    with pytest.raises(ConfigError, match=r"Forgetful.*los.*loss"):
        module.correspondence_step(clip(module))


def test_a_frozen_encoder_learns_again_before_the_strategy_wraps_the_module():
    """DDP leaves out what is frozen then, so that ranks would drift apart."""
    module = UMECModule("tiny", freeze_encoder=True)
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module._freeze_encoder()
    module.setup("validate")
    assert module.encoder_frozen
    module.setup("fit")
    assert not module.encoder_frozen
    assert all(p.requires_grad for p in module.network.encoder.parameters())
