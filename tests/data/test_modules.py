import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from module_toys import TINY, FrameFolder, Recorder, commit_generation, trainer
from PIL import Image
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.loggers import CSVLogger

from vos_umec.data.datamodules import SyntheticDataModule, VideoFolderDataModule, YouTubeVOSDataModule
from vos_umec.data.evaluation_datamodules import DavisDataModule
from vos_umec.data.sequences import VideoSequence
from vos_umec.errors import ConfigError, DataError


@pytest.fixture
def videos(tmp_path: Path, frame_folder: FrameFolder) -> Path:
    for number in range(6):
        frame_folder(tmp_path / "videos" / f"v{number}", frames=12, first=12 * number)
    return tmp_path / "videos"


@pytest.fixture
def davis(tmp_path: Path, frame_folder: FrameFolder) -> Path:
    root = tmp_path / "davis"
    for name in ("bear", "dog"):
        frame_folder(root / "JPEGImages" / name, frames=2)
        mask = root / "Annotations" / name / "00000.png"
        mask.parent.mkdir(parents=True)
        Image.new("P", (30, 20), 1).save(mask)
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_augmented_on_the_device(videos: Path, tmp_path: Path, workers: int) -> None:
    model = Recorder()
    trainer(tmp_path).fit(model, datamodule=VideoFolderDataModule(str(videos), num_workers=workers, **TINY))
    assert len(model.batches) == 3
    batch = model.batches[0]
    assert batch["frames"].shape == (2, 3, 3, 16, 16)
    assert batch["frames"].dtype == torch.float32
    assert batch["frames"].min() < 0, "normalised"
    assert batch["segments"].shape == (2, 3, 16, 16)
    assert (batch["segments"] == 255).all()
    assert batch["frame_indices"].shape == (2, 3)
    assert batch["generation"].tolist() == [0, 0]
    assert sorted(name for name, _ in model.clips[0]) == [f"v{number}" for number in range(6)]


def test_a_resumed_run_reads_the_clips_the_whole_run_would_have_read(videos: Path, tmp_path: Path) -> None:
    def module() -> VideoFolderDataModule:
        return VideoFolderDataModule(str(videos), num_workers=2, seed=4, clips_per_video=2, **TINY)

    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(tmp_path / "a", max_epochs=3).fit(whole, datamodule=module())
    begun = trainer(tmp_path / "b", max_epochs=1)
    begun.fit(first, datamodule=module())
    begun.save_checkpoint(tmp_path / "half.ckpt")
    resumed = trainer(tmp_path / "c", max_epochs=3)
    resumed.fit(second, datamodule=module(), ckpt_path=tmp_path / "half.ckpt")
    assert whole.clips == {**first.clips, **second.clips}
    assert sorted(whole.clips) == [0, 1, 2]
    assert whole.clips[0] != whole.clips[1] != whole.clips[2]


def test_persistent_workers_deliver_a_new_generation_in_the_epoch_it_was_made_in(
    videos: Path, tmp_path: Path
) -> None:
    model = Recorder(refresh_in=(1, 3))
    trainer(tmp_path, max_epochs=5).fit(model, datamodule=VideoFolderDataModule(str(videos), num_workers=2, **TINY))
    generations = [batch["generation"].unique().tolist() for batch in model.batches]
    assert generations == [[0]] * 3 + [[1]] * 6 + [[2]] * 6
    assert [batch["segments"].unique().tolist() for batch in model.batches[3:]] == generations[3:]
    assert all(set(numbers) <= {0, 2, 4, 6} for _, numbers in model.clips[4])


class Refreshed(Recorder):
    """Has pseudo masks at the end of an epoch, as the callback makes them."""

    def on_train_epoch_start(self) -> None:
        pass

    def on_train_epoch_end(self) -> None:
        if self.current_epoch in self.refresh_in:
            commit_generation(self.trainer)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_mask_phase_has_its_own_batch_size(videos: Path, tmp_path: Path, workers: int) -> None:
    def fit(epochs: int, ckpt_path: Path | None = None) -> tuple[Trainer, Refreshed, VideoFolderDataModule]:
        sizes = {"mask_phase_batch_size": 3, "num_workers": workers, "store": str(tmp_path / f"store{epochs}")}
        module = VideoFolderDataModule(str(videos), **TINY, **sizes)
        model, run = Refreshed(refresh_in=(1,)), trainer(tmp_path, max_epochs=epochs)
        run.fit(model, datamodule=module, ckpt_path=ckpt_path)
        return run, model, module

    run, whole, module = fit(4)
    assert [len(batch["frames"]) for batch in whole.batches] == [2] * 6 + [3] * 4
    assert all(sorted(name for name, _ in clips) == [f"v{n}" for n in range(6)] for clips in whole.clips.values())
    loader = module.trainer.train_dataloader
    assert loader is not None
    assert run.reload_dataloaders_every_n_epochs == 0  # no more new loaders
    run, first, _ = fit(2)
    run.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed, _ = fit(4, tmp_path / "half.ckpt")
    assert whole.clips == {**first.clips, **resumed.clips}


@pytest.mark.parametrize(
    ("batch", "devices", "told"),
    [
        (12, 8, "give 8 or 16"),
        (2, 4, "give 4 or 8"),
        (16, 5, "give 15 or 20"),
        (8, 2, ""),
        (6, 2, "3 clips on each"),
    ],
)
def test_a_batch_is_of_all_devices_together(
    batch: int, devices: int, told: str, videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**TINY, "batch_size": batch, "clips_per_video": 4, "store": str(tmp_path / "store")}
    module = VideoFolderDataModule(str(videos), num_workers=0, **options)
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)))
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=devices, num_devices=devices, global_rank=1, is_global_zero=True, fit_loop=progress
    )
    if batch % devices:
        with pytest.raises(ConfigError, match=f"batch_size is {batch}, .* all {devices} devices .*{told}"):
            module.setup("fit")
        return
    with caplog.at_level(logging.WARNING, logger="vos_umec"):
        module.setup("fit")
    assert [told in record.getMessage() for record in caplog.records] == ([True] if told else [])
    assert len(next(iter(module.train_dataloader()))["frames"]) == batch // devices


def test_a_resumed_run_takes_over_the_pseudo_masks(videos: Path, tmp_path: Path) -> None:
    def fit(model: Recorder, epochs: int, **options: Any) -> tuple[Trainer, VideoFolderDataModule]:
        module = VideoFolderDataModule(str(videos), num_workers=0, **TINY)
        run = trainer(tmp_path, max_epochs=epochs, logger=CSVLogger(tmp_path), log_every_n_steps=1)
        run.fit(model, datamodule=module, **options)
        return run, module

    run, before = fit(Recorder(refresh_in=(0,)), epochs=1)
    assert before.store.root == Path(run.log_dir) / "pseudo_masks"
    run.save_checkpoint(tmp_path / "last.ckpt")
    model = Recorder()
    _, after = fit(model, epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert after.store.root != before.store.root
    assert after.store.generation == 1
    assert {int(batch["generation"][0]) for batch in model.batches} == {1}
    fresh = Recorder()
    fit(fresh, epochs=1)
    assert {int(batch["generation"][0]) for batch in fresh.batches} == {0}, "another run starts without"


def test_a_broken_video_is_warned_of_once(videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (videos / "broken.mp4").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="vos_umec"):
        trainer(tmp_path).fit(Recorder(), datamodule=VideoFolderDataModule(str(videos), num_workers=0, **TINY))
    assert [record.getMessage()[:14] for record in caplog.records] == ["1 of 7 videos "]


def test_the_store_is_where_it_was_asked_for(videos: Path, tmp_path: Path) -> None:
    module = VideoFolderDataModule(str(videos), store=str(tmp_path / "here"), num_workers=0, **TINY)
    trainer(tmp_path).fit(Recorder(refresh_in=(0,)), datamodule=module)
    assert (tmp_path / "here" / "manifest.json").is_file()
    assert module.store.generation == 1


def test_validation_gives_whole_sequences_untouched(videos: Path, davis: Path, tmp_path: Path) -> None:
    model = Recorder()
    module = VideoFolderDataModule(str(videos), val_root=str(davis), num_workers=0, **TINY)
    trainer(tmp_path, num_sanity_val_steps=0).fit(model, datamodule=module)
    assert [sequence.name for sequence in model.sequences] == ["bear", "dog"]
    assert all(isinstance(sequence, VideoSequence) for sequence in model.sequences)


def test_davis_serves_validation_test_and_prediction(davis: Path, tmp_path: Path) -> None:
    module = DavisDataModule(str(davis))
    for run in (trainer(tmp_path).validate, trainer(tmp_path).test):
        model = Recorder()
        run(model, datamodule=module, verbose=False)
        assert [sequence.name for sequence in model.sequences] == ["bear", "dog"]
    assert trainer(tmp_path).predict(Recorder(), datamodule=module) == ["bear", "dog"]
    with pytest.raises(DataError, match="no folder"):
        trainer(tmp_path).validate(Recorder(), datamodule=DavisDataModule(str(tmp_path / "nowhere")))


def test_youtube_vos_trains_on_its_frames_alone(tmp_path: Path, frame_folder: FrameFolder) -> None:
    for kind in ("JPEGImages", "Annotations"):
        frame_folder(tmp_path / "train" / kind / "003234408d", step=5)
    module = YouTubeVOSDataModule(str(tmp_path), num_workers=0, **TINY)
    module.prepare_data()
    module.setup("fit")
    assert [video.path.parent.name for video in module.index] == ["JPEGImages"]
    with pytest.raises(DataError, match="train_all_frames"):
        YouTubeVOSDataModule(str(tmp_path), all_frames=True).prepare_data()


def test_a_module_works_without_a_trainer(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    module = VideoFolderDataModule(str(videos), num_workers=0, **{**TINY, "batch_size": 50})
    module.prepare_data()
    module.setup("fit")
    with caplog.at_level(logging.INFO):
        (batch,) = module.train_dataloader()
    assert batch["frames"].shape == (6, 3, 3, 20, 20)
    assert batch["frames"].dtype == torch.uint8
    assert "6 clips" in caplog.text
    assert module.val_dataloader() == []
    assert not (tmp_path / "pseudo_masks").exists()


def test_wrong_settings_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^batch_size is 0 and crop is -8; "):
        VideoFolderDataModule("videos", batch_size=0, crop=-8)
    with pytest.raises(DataError, match="is missing"):
        VideoFolderDataModule(str(tmp_path / "nowhere")).prepare_data()


@pytest.mark.parametrize(
    "name", ["VideoFolderDataModule", "YouTubeVOSDataModule", "SyntheticDataModule", "DavisDataModule"]
)
def test_modules_are_built_from_a_configuration(name: str) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    options = {"root": "somewhere"}
    if name != "DavisDataModule":
        options |= {"batch_size": 3, "crop_scale": [0.6, 1.0], "num_workers": None}
    path = f"vos_umec.{name}"
    module = parser.instantiate_classes(
        parser.parse_object({"data": {"class_path": path, "init_args": options}})
    ).data
    assert type(module).__name__ == name
    assert module.hparams["root"] == "somewhere"
    if name != "DavisDataModule":
        assert module.hparams["batch_size"] == 3
        assert module.augment.scale == (0.6, 1.0)


@pytest.mark.slow
def test_synthetic_videos_train_and_validate(tmp_path: Path) -> None:
    module = SyntheticDataModule(
        str(tmp_path), train_videos=2, val_videos=1, frames=6, size=(32, 48), num_workers=0, **TINY
    )
    model = Recorder()
    trainer(tmp_path, num_sanity_val_steps=0).fit(model, datamodule=module)
    assert model.batches[0]["frames"].shape == (2, 3, 3, 16, 16)
    assert len(model.sequences) == 1
    assert len(model.sequences[0].annotations) == 6


@pytest.mark.slow
def test_two_processes_share_clips_and_pseudo_masks(videos: Path, davis: Path, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from module_toys import TINY, Recorder, trainer\n"
        "from pytorch_lightning.loggers import CSVLogger\n"
        "from vos_umec.data.datamodules import VideoFolderDataModule\n"
        "videos, davis, root = map(Path, sys.argv[1:])\n"
        "options = {**TINY, 'batch_size': 6}\n"
        "module = VideoFolderDataModule(str(videos), val_root=str(davis), num_workers=1, **options)\n"
        "model = Recorder(refresh_in=(1,))\n"
        "run = trainer(root, max_epochs=2, devices=2, strategy='ddp', logger=CSVLogger(root),\n"
        "              log_every_n_steps=1, num_sanity_val_steps=0)\n"
        "run.fit(model, datamodule=module)\n"
        "seen = {'clips': model.clips, 'store': str(module.store.root), 'generation': module.store.generation,\n"
        "        'sequences': [sequence.name for sequence in model.sequences]}\n"
        "(root / f'rank{run.global_rank}.json').write_text(json.dumps(seen))\n"
    )
    arguments = [sys.executable, str(program), str(videos), str(davis), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for epoch in ("0", "1"):
        names = [[name for name, _ in seen["clips"][epoch]] for seen in (first, second)]
        assert sorted(names[0] + names[1]) == [f"v{number}" for number in range(6)]
    assert first["store"] == second["store"]
    assert first["generation"] == second["generation"] == 1
    assert set(first["sequences"] + second["sequences"]) == {"bear", "dog"}
