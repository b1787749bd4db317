import logging
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from refresh_toys import SIZE, CutOff, Toy, Validated, contents, fit, make, write_videos

from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError, DataError, MissingDependencyError
from vos_umec.training.callbacks import pseudo_mask_refresh as callback_module
from vos_umec.training.callbacks.pseudo_mask_refresh import PseudoMaskRefresh


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.mark.parametrize(("every", "warmup"), [(1, 0), (2, 1), (3, 5), (0, 2), (10, 10)])
def test_schedule(every, warmup):
    refresh = PseudoMaskRefresh(every_n_epochs=every, warmup_epochs=warmup)
    for epoch in range(40):
        wanted = [
            e for e in range(epoch + 1) if e == warmup or (every and e > warmup and (e - warmup) % every == 0)
        ]
        assert refresh.due(epoch) == max(wanted, default=-1)


def test_masks_come_after_the_warmup_and_again_and_not_after_the_last_epoch(videos, tmp_path):
    module = Toy()
    trainer = fit(videos, tmp_path, make(every_n_epochs=2), epochs=5, module=module)
    assert module.generations() == {0: {0}, 1: {1}, 2: {1}, 3: {2}, 4: {2}}
    store = trainer.datamodule.store
    assert store.generation == 2
    assert store.manifest["epoch"] == 3
    assert store.manifest["videos"] == 3
    for name, segments in contents(store.root).items():
        assert segments.shape == (6, *SIZE), name
        assert set(np.unique(segments)) <= {0, 1, 2}


def test_training_that_ends_before_the_first_masks_says_so(videos, tmp_path, caplog):
    fit(videos, tmp_path, make(warmup_epochs=2), epochs=2)
    assert "2 steps in 2 epochs" in caplog.text
    assert "warmup_epochs 2" in caplog.text
    caplog.clear()
    fit(videos, tmp_path, make(warmup_epochs=1), epochs=2)
    assert "warmup_epochs" not in caplog.text


def test_masks_of_another_origin_that_training_keeps_are_masks_too(videos, tmp_path, caplog, monkeypatch):
    """As of experiments/moving_objects, whose data module does not let them be hidden."""
    checkpointed(videos, tmp_path, epochs=3)
    monkeypatch.setattr(PseudoMaskStore, "hide", lambda self: None)
    caplog.clear()
    module = Toy()
    fit(videos, tmp_path, make(warmup_epochs=9), epochs=2, module=module)
    assert module.generations() == {0: {1}, 1: {1}}
    assert "training ended" not in caplog.text


def test_training_that_ends_soon_after_the_first_masks_says_so(videos, tmp_path, caplog, monkeypatch):
    """Also if it was resumed after them."""
    path = checkpointed(videos, tmp_path, epochs=3)
    assert "ended 2 steps after the first pseudo masks" in caplog.text
    fit(videos, tmp_path, make(every_n_epochs=2), epochs=6, ckpt_path=path)
    assert "ended 5 steps after the first pseudo masks" in caplog.text
    caplog.clear()
    monkeypatch.setattr(callback_module, "FEW_STEPS", 2)
    fit(videos, tmp_path / "longer", make(), epochs=3)
    assert "after the first pseudo masks" not in caplog.text


@pytest.mark.parametrize(
    ("began", "warns"),
    [
        ({"path": "shipped"}, False),
        ({"path": "shipped", "parts": ["encoder", "mask_encoder", "decoder"]}, False),
        ({"path": "shipped", "parts": ["encoder"]}, True),
        ({"encoder": "resnet18.pth", "used_labels": False}, True),
    ],
)
def test_a_short_training_is_enough_for_a_decoder_that_was_trained_before(videos, tmp_path, caplog, began, warns):
    module = Toy()
    module.started_from = [began]
    fit(videos, tmp_path, make(), epochs=3, module=module)
    assert ("after the first pseudo masks" in caplog.text) == warns


def test_no_refresh_follows_the_last_step(videos, tmp_path):
    trainer = fit(videos, tmp_path, make(every_n_epochs=1), epochs=-1, max_steps=2)  # 1 step an epoch
    assert trainer.datamodule.store.manifest["epoch"] == 1


@pytest.mark.slow
def test_workers_that_live_on_read_the_masks_in_force(videos, tmp_path):
    module = Toy()
    fit(videos, tmp_path, make(warmup_epochs=0, every_n_epochs=1), epochs=3, module=module, workers=2)
    assert module.generations() == {0: {1}, 1: {2}, 2: {3}}  # not one clip was read ahead


def checkpointed(videos, folder, epochs, every=2, **hooks):
    """Train with a checkpoint of the last epoch; gives its path."""
    keep = ModelCheckpoint(dirpath=folder / "ckpt", save_last=True, **hooks)
    fit(videos, folder, make(every_n_epochs=every), epochs, enable_checkpointing=True, callbacks=[keep])
    return folder / "ckpt" / "last.ckpt"


def test_a_resumed_run_goes_on_with_the_masks_and_the_schedule(videos, tmp_path):
    path = checkpointed(videos, tmp_path, epochs=3)  # a generation before epoch 1
    state = torch.load(path, weights_only=True)["callbacks"]["PseudoMaskRefresh"]
    assert state == {"done": 1, "first_step": 1}
    module = Toy()
    fit(videos, tmp_path, make(every_n_epochs=2), epochs=6, module=module, ckpt_path=path)
    assert module.generations() == {3: {2}, 4: {2}, 5: {3}}  # before 3, since training went on after all; before 5


def test_a_refresh_at_the_start_of_a_resumed_run_gives_the_mask_phase_its_batches(videos, tmp_path):
    sizes = {"mask_phase_batch_size": 1}  # of 3 clips, batches of 2 leave one out
    fit(videos, tmp_path, make(), epochs=1, data=sizes).save_checkpoint(tmp_path / "last.ckpt")
    module = Toy()
    fit(videos, tmp_path, make(), epochs=3, module=module, ckpt_path=tmp_path / "last.ckpt", data=sizes)
    assert module.seen == [(epoch, 1) for epoch in (1, 1, 1, 2, 2, 2)]


def test_lost_masks_are_made_anew_at_once(videos, tmp_path, caplog):
    path = checkpointed(videos, tmp_path, epochs=2, every=10)
    shutil.rmtree(tmp_path / "store")
    module = Toy()
    fit(videos, tmp_path, make(every_n_epochs=10), epochs=4, module=module, ckpt_path=path)
    assert "the pseudo masks of the resumed run are gone" in caplog.text
    assert module.generations() == {2: {1}, 3: {1}}


@pytest.mark.parametrize("when", ["after the last step", "after validation"])
def test_a_refresh_that_was_cut_off_is_made_up_for(videos, tmp_path, when):
    every = {"every_n_train_steps": 3} if when == "after the last step" else {"save_on_train_epoch_end": False}
    keep = ModelCheckpoint(dirpath=tmp_path / "ckpt", save_last=True, **every)
    with pytest.raises(ConnectionError):
        fit(videos, tmp_path, make(), 3, Validated(), first=[CutOff()], callbacks=[keep],
            enable_checkpointing=True, clips=2)  # fmt: skip
    assert PseudoMaskStore(tmp_path / "store").generation == 0
    module = Validated()
    fit(videos, tmp_path, make(), epochs=3, module=module, ckpt_path=tmp_path / "ckpt" / "last.ckpt", clips=2)
    assert PseudoMaskStore(tmp_path / "store").manifest["epoch"] == 1
    assert module.seen[-1] == (2, 1)
    assert (1, 1) in module.seen  # all but what was read ahead


def test_masks_of_another_run_are_not_used(videos, tmp_path, caplog):
    fit(videos, tmp_path, make(), epochs=2)
    module = Toy()
    fit(videos, tmp_path, make(), epochs=2, module=module)
    assert "belong to another run" in caplog.text
    assert module.generations() == {0: {0}, 1: {2}}


@pytest.mark.parametrize("place", ["the same store", "a new one"])
def test_an_earlier_checkpoint_goes_on_with_the_masks_of_its_time(videos, tmp_path, place):
    """None where the warm-up is not over, though the run it is from has made some since."""
    keep = ModelCheckpoint(dirpath=tmp_path / "ckpt", filename="{epoch}", save_top_k=-1)
    fit(videos, tmp_path, make(warmup_epochs=2), 5, Toy(), enable_checkpointing=True, callbacks=[keep])
    folder = tmp_path if place == "the same store" else tmp_path / "new"
    for epoch, expected in ((0, {1: {0}, 2: {1}}), (3, {4: {1}})):
        module = Toy()
        path = tmp_path / "ckpt" / f"epoch={epoch}.ckpt"
        fit(
            videos,
            folder / str(epoch) if folder != tmp_path else folder,
            make(warmup_epochs=2),
            max(expected) + 1,
            module,
            path,
        )
        assert module.generations() == expected


def test_a_wish_to_stop_before_the_least_of_epochs_ends_no_refresh(videos, tmp_path):
    class Wish(Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = True

    module = Toy()
    fit(videos, tmp_path, make(), epochs=9, module=module, callbacks=[Wish()], min_epochs=3)
    assert module.generations() == {0: {0}, 1: {1}, 2: {1}}


def test_a_broken_video_is_left_out(videos, tmp_path, caplog):
    root = shutil.copytree(videos, tmp_path / "videos")

    class Break(Callback):
        def on_train_start(self, trainer, pl_module):
            for frame in (root / "b").iterdir():
                frame.write_bytes(b"nothing")

    trainer = fit(root, tmp_path, make(), epochs=2, callbacks=[Break()])
    assert caplog.text.count("b gets no pseudo masks") == 1
    assert trainer.datamodule.store.manifest["videos"] == 2
    assert set(contents(tmp_path / "store")) == {"a", "deep/c d é"}


def test_no_video_at_all_is_an_error_and_the_old_masks_stay(videos, tmp_path):
    fit(videos, tmp_path, make(), epochs=2)

    class Diverged(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            pl_module.network.encoder.head[-1].weight.data.fill_(float("nan"))

    with pytest.raises(DataError, match="3 videos"):
        fit(videos, tmp_path, make(), epochs=2, first=[Diverged()])
    assert PseudoMaskStore(tmp_path / "store").generation == 1
    assert len(contents(tmp_path / "store")) == 3


def test_health_and_pictures_reach_the_loggers(videos, tmp_path, caplog):
    logger = CSVLogger(tmp_path, name="logs")
    with caplog.at_level(logging.INFO, logger="vos_umec"):
        fit(videos, tmp_path, make(position_weight=6.0), epochs=2, logger=logger, log_every_n_steps=1)
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    for name in ("entropy", "small", "consistency", "position"):
        assert 0 <= float(row[f"segments/{name}"]) <= 1
    assert float(row["segments/videos"]) == 3
    assert re.search("pseudo masks 1: 3 of 3 .*entropy", caplog.text)
    assert "tiles" in caplog.text  # position_weight=6
    names = sorted(path.name for path in (tmp_path / "store" / "pictures").iterdir())
    assert names == ["refresh_001_a.png", "refresh_001_deep%2Fc d %C3%A9.png"]
    with Image.open(tmp_path / "store" / "pictures" / names[0]) as picture:
        assert picture.size[0] == 1600


@pytest.mark.slow
def test_wandb_gets_figures_and_pictures(videos, tmp_path, monkeypatch):
    logger = WandbLogger(project="p", save_dir=tmp_path, offline=True)
    logged = []
    monkeypatch.setattr(
        logger, "log_image", lambda key, images, step, **_: logged.append((key, images[0].shape[1], step))
    )
    try:
        fit(videos, tmp_path, make(), epochs=2, logger=logger)
        assert 0 <= logger.experiment.summary["segments/entropy"] <= 1
    finally:
        logger.experiment.finish()
    assert [(key, width) for key, width, _ in logged] == [("segments/a", 1600), ("segments/deep/c d é", 1600)]


def test_lightnings_own_bar_goes_on_afterwards(videos, tmp_path):
    bar = RichProgressBar(console_kwargs={"force_terminal": True})
    fit(videos, tmp_path, make(every_n_epochs=1), epochs=4, enable_progress_bar=True, callbacks=[bar])


def test_the_encoder_comes_back_in_training_mode(videos, tmp_path):
    module = Toy()
    fit(videos, tmp_path, make(warmup_epochs=0), epochs=1, module=module)
    assert module.network.encoder.training


def test_mixed_precision_clusters_too(videos, tmp_path):
    module = Toy()
    fit(videos, tmp_path, make(warmup_epochs=0), epochs=1, module=module, precision="bf16-mixed")
    assert module.generations() == {0: {1}}


def test_what_it_needs_is_checked_before_the_warmup(videos, tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[make()],
                      default_root_dir=tmp_path, enable_progress_bar=False)  # fmt: skip
    with pytest.raises(ConfigError, match=r"PseudoMaskRefresh.*index, store, gap.*NoneType"):
        trainer.fit(Toy(), [{"frames": torch.zeros(1)}])
    for name, value in {"every_n_epochs": -1, "frames_per_video": 0, "clusters": 1, "warmup_epochs": -2}.items():
        with pytest.raises(ConfigError, match=f"{name}(=| is ){value}"):
            make(**{name: value})


def test_a_missing_faiss_shows_before_the_warmup(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r'faiss.*"vos-umec\[cpu\]"'):
        fit(videos, tmp_path, make(warmup_epochs=5))


def stand_in_for_cuda(devices):
    """As much of a Trainer on CUDA as the checks before a training ask."""
    data = SimpleNamespace(index=None, store=None, gap=1)
    strategy = SimpleNamespace(root_device=torch.device("cuda", 0))
    return SimpleNamespace(datamodule=data, strategy=strategy, num_devices=devices)


def test_on_cuda_no_faiss_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    make().setup(stand_in_for_cuda(1), Toy(), "fit")


@pytest.mark.parametrize(("cores", "devices", "expected"), [(2, 1, 2), (8, 1, 7), (64, 8, 7), (96, 2, 16)])
def test_beside_a_gpu_the_cores_read_and_beside_a_cpu_one_process_does(cores, devices, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert callback_module._reading_processes(stand_in_for_cuda(devices)) == expected
    cpu = Trainer(accelerator="cpu", logger=False, barebones=True)
    assert callback_module._reading_processes(cpu) == 1
    cpu.datamodule = SimpleNamespace(hparams={"num_workers": 0})  # where processes may not be wanted at all
    assert callback_module._reading_processes(cpu) == 0


def test_other_stages_ask_nothing_of_the_data_module(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[make()], enable_progress_bar=False,
                      default_root_dir=tmp_path)  # fmt: skip
    trainer.validate(Validated(), torch.utils.data.DataLoader([0]))
