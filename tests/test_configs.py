"""Every YAML in configs/ runs, and so does the subclass of the guide, at small settings."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vos_umec import SyntheticVOS, load
from vos_umec.cli.main import main
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.metrics.results import Scores
from vos_umec.training.checkpoint import load_module

ROOT = Path(__file__).parents[1]
SMALL = [
    "--trainer.log_every_n_steps=1",
    "--trainer.max_epochs=2",
    "--trainer.check_val_every_n_epoch=2",
    "--trainer.enable_progress_bar=false",
    "--model.network=tiny",
    "--refresh.warmup_epochs=1",
    "--model.evaluation.segmenter.short_side=48",
    "--data.short_side=48",
    "--data.crop=32",
    "--data.batch_size=2",
    "--data.clips_per_video=2",
    "--data.num_workers=0",
    "--refresh.every_n_epochs=1",
    "--refresh.frames_per_video=5",
    "--refresh.short_side=48",
    "--refresh.pictures=1",
]
OVERLAYS = ["finetune.yaml", "shipped.yaml"]  # run by tests/cli/test_finetune.py and below
OBJECTS = 6  # in the three validation videos
VIDEOS = {"train_videos": 2, "val_videos": 3, "frames": 6, "size": (48, 64)}


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> SyntheticVOS:
    made = SyntheticVOS(tmp_path_factory.mktemp("videos"), **VIDEOS)
    made.prepare()
    return made


@pytest.fixture(scope="session")
def davis(videos, tmp_path_factory) -> Path:
    """The held-out videos as a DAVIS folder."""
    root = tmp_path_factory.mktemp("davis")
    for sequence in videos.val_sequences():
        frames, masks = (root / kind / "480p" / sequence.name for kind in ("JPEGImages", "Annotations"))
        frames.mkdir(parents=True)
        for t, frame in enumerate(sequence.source().read(range(VIDEOS["frames"]))):
            Image.fromarray(frame).save(frames / f"{t:05d}.jpg")
            write_mask(masks / f"{t:05d}.png", read_mask(sequence.annotations[t]))
    (root / "ImageSets" / "2017").mkdir(parents=True)
    names = "\n".join(sequence.name for sequence in videos.val_sequences())
    (root / "ImageSets" / "2017" / "val.txt").write_text(names)
    return root


@pytest.fixture(scope="session")
def youtube(davis, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("youtube")
    (root / "train").mkdir()
    for kind in ("JPEGImages", "Annotations"):
        (root / "train" / kind).symlink_to(davis / kind / "480p")
    return root


@pytest.fixture(scope="session")
def checkpoint(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    arguments = ["fit", "--config", "configs/folder.yaml", f"--data.root={videos.train_root}", *SMALL]
    assert main([*arguments, f"--trainer.logger.save_dir={out}"]) == 0
    return out / "folder" / "version_0" / "checkpoints" / "last.ckpt"


def _small_synthetic() -> list[str]:
    sizes = [f"--data.{name}={list(value) if name == 'size' else value}" for name, value in VIDEOS.items()]
    return [*SMALL, *sizes]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml") if path.name not in OVERLAYS)
)
def test_every_configuration_runs(name, request, tmp_path, capsys):
    arguments = [f"--trainer.logger.save_dir={tmp_path}"]
    if name == "davis17.yaml":
        arguments += ["test", f"--data.root={request.getfixturevalue('davis')}", "--model.network=tiny"]
        arguments += ["--trainer.enable_progress_bar=false", "--model.evaluation.segmenter.short_side=48"]
    elif name == "propagation.yaml":
        arguments += ["test", f"--data.root={request.getfixturevalue('davis')}"]
        arguments += ["--trainer.enable_progress_bar=false", "--model.evaluation.segmenter.short_side=48"]
    elif name == "ytvos_predict.yaml":
        arguments += ["predict", f"--data.root={request.getfixturevalue('youtube')}", "--data.split=train"]
        arguments += ["--model.network=tiny", "--trainer.enable_progress_bar=false"]
    elif name == "quickstart.yaml":
        arguments += ["fit", *_small_synthetic(), f"--data.root={tmp_path / 'videos'}"]
    else:
        source = request.getfixturevalue("youtube" if name.startswith("ytvos") else "videos")
        arguments += ["fit", *SMALL, f"--data.root={getattr(source, 'train_root', source)}"]
        if name.startswith("ytvos"):
            arguments.append(f"--data.val_root={request.getfixturevalue('davis')}")
            arguments.append("--data.mask_phase_batch_size=1")
        if name == "two_cores.yaml":
            arguments.append("--refresh.at=[0.0]")  # a share of half an hour would not be reached
            arguments.append("--trainer.check_val_every_n_epoch=null")  # as it has it: it validates by steps
    command = next(a for a in arguments if a in ("fit", "test", "predict"))
    arguments.remove(command)
    assert main([command, "--config", f"configs/{name}", *arguments]) == 0
    (run,) = tmp_path.glob("*/version_0")
    told = capsys.readouterr().out
    if command == "test":
        assert f"picture in {run / 'results.png'}\n" in told
        assert (run / "results.png").is_file()
        scores = json.loads((run / "scores" / "label_propagation.json").read_text())
        assert len(scores["objects"]) == OBJECTS
        assert 0 < scores["J&F"] == Scores(scores["objects"]).overall["J&F"]
    if command == "predict":
        assert f"masks in {run / 'predictions'}\n" in told
    if command == "fit":
        assert f"checkpoint in {run / 'checkpoints' / 'last.ckpt'}\n" in told
        assert (run / "config.yaml").is_file()
        assert (run / "pseudo_masks" / "manifest.json").is_file()
        assert list((run / "pseudo_masks" / "pictures").glob("*.png"))
        assert "train/seg" in (run / "metrics.csv").read_text()  # the joint phase was reached
        assert (run / "validation.png").is_file() == name.startswith(("quickstart", "ytvos"))
    if command == "fit" and name.startswith("ytvos"):
        (best,) = (run / "checkpoints").glob("best-epoch=1.ckpt")
        assert re.search(rf"^best by val/J&F, [0-9.]+: {best}$", told, flags=re.MULTILINE)
        last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        (optimizer,) = last["optimizer_states"]
        assert [group["lr"] for group in optimizer["param_groups"]] == pytest.approx([1e-5] * 2)  # a tenth
        assert last["global_step"] == 3 + 6  # of six clips an epoch, two a step, then one


@pytest.mark.slow
def test_the_shipped_model_is_scored_by_one_command(davis, tmp_path, capsys):
    arguments = ["test", "--config", "configs/davis17.yaml", "--config", "configs/shipped.yaml"]
    arguments += [f"--data.root={davis}", f"--trainer.logger.save_dir={tmp_path}"]
    arguments += ["--model.evaluation.segmenter.short_side=48", "--trainer.enable_progress_bar=false"]
    assert main(arguments) == 0
    assert "label propagation" in capsys.readouterr().out
    (scores,) = tmp_path.glob("*/version_0/scores")
    for method in ("umec", "label_propagation"):
        assert len(json.loads((scores / f"{method}.json").read_text())["objects"]) == OBJECTS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs" / "schemas").glob("*.yaml")))
def test_every_schema_replaces_the_objectives_and_trains_with_segmentation_on_top(name, videos, tmp_path):
    overlay = yaml.safe_load((ROOT / "configs" / "schemas" / name).read_text())
    (spec,) = overlay["model"]["init_args"]["objectives"]
    arguments = ["fit", "--config", "configs/folder.yaml", "--config", f"configs/schemas/{name}", *SMALL]
    arguments += [f"--data.root={videos.train_root}", f"--trainer.logger.save_dir={tmp_path}"]
    assert main(arguments) == 0
    run = tmp_path / "folder" / "version_0"
    module = load_module(run / "checkpoints" / "last.ckpt")
    assert [type(objective).__name__ for objective in module.objectives] == [spec["class_path"].split(".")[-1]]
    assert module.hparams["objectives"] == [spec]
    assert module.segmentation.queries == 1  # what the overlay does not name is the base's
    assert "train/seg" in (run / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_checkpoint_is_tested_validated_predicted_and_segments(checkpoint, davis, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--config", "configs/davis17.yaml", f"--data.root={davis}", f"--ckpt_path={checkpoint}"]
    common += ["--trainer.enable_progress_bar=false", "--model.evaluation.segmenter.rounds=1"]
    for command in ("test", "validate", "predict"):
        assert main([command, *common, f"--trainer.logger.save_dir={tmp_path / command}"]) == 0
    scores = (tmp_path / "test" / "davis17" / "version_0" / "metrics.csv").read_text()
    for label in ("val/J&F", "val/copy_first_mask/J&F", "val/label_propagation/J&F"):
        assert label in scores
    results = tmp_path / "predict" / "davis17" / "version_0" / "predictions"
    assert main(["evaluate", str(results), "--root", str(davis), "--json", "scores.json"]) == 0

    sequence = videos.val_sequences()[0]
    first = sequence.annotations[0]
    arguments = [str(sequence.path), "--mask", str(first), "--checkpoint", str(checkpoint), "--out", "out"]
    assert main(["segment", *arguments]) == 0
    masks = sorted((tmp_path / "out" / "masks").glob("*.png"))
    assert len(masks) == VIDEOS["frames"]
    assert np.array_equal(read_mask(masks[0]), read_mask(first))
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 0
    assert main(["cluster", str(videos.train_root), "--checkpoint", str(checkpoint), "--out", "seg"]) == 0
    assert (tmp_path / "seg" / "contact_sheet.png").is_file()


@pytest.mark.slow
def test_a_checkpoint_loads_in_a_fresh_process_and_gives_the_same_keys(checkpoint):
    frame = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here = load(checkpoint).encoder(frame).key.sum(dim=(0, 2, 3))
    code = (
        "import torch; from vos_umec import UMECModule\n"
        f"m = UMECModule.load_from_checkpoint({str(checkpoint)!r}, weights_only=True).eval()\n"
        "x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))\n"
        "with torch.no_grad(): print(m.network.encoder(x).key.sum(dim=(0, 2, 3)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    there = torch.tensor(eval(done.stdout.strip().splitlines()[-1]))
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_run_resumes_where_it_stopped(checkpoint, videos, tmp_path):
    arguments = ["fit", "--config", "configs/folder.yaml", f"--data.root={videos.train_root}", *SMALL]
    arguments += [f"--trainer.logger.save_dir={tmp_path}", f"--ckpt_path={checkpoint}", "--trainer.max_epochs=3"]
    assert main(arguments) == 0
    (last,) = tmp_path.glob("folder/version_0/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 6  # two epochs of two steps, and one more
    assert (tmp_path / "folder" / "version_0" / "pseudo_masks" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_checkpoint_of_another_network_ends_in_one_line(checkpoint, davis, tmp_path, capsys):
    saved = torch.load(checkpoint, weights_only=True)
    saved["hyper_parameters"]["network"] = {"preset": "tiny", "encoder": {"key_dim": 32}}
    torch.save(saved, tmp_path / "other.ckpt")
    arguments = ["--config", "configs/davis17.yaml", f"--data.root={davis}"]
    assert main(["test", *arguments, f"--ckpt_path={tmp_path / 'other.ckpt'}"]) == 1
    assert "encoder.head" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
def test_the_subclass_of_the_guide_trains_from_yaml(videos, tmp_path, monkeypatch):
    guide = (ROOT / "docs" / "guides" / "change.md").read_text()
    (source,) = re.findall(r"```python\n(# my_module\.py\n.*?)```", guide, flags=re.DOTALL)
    (yaml,) = re.findall(r"```yaml\n(# cosine\.yaml.*?)```", guide, flags=re.DOTALL)
    assert source.count("\n") <= 15
    (tmp_path / "my_module.py").write_text(source)
    (tmp_path / "cosine.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "--config", "configs/quickstart.yaml", "--config", "cosine.yaml", *_small_synthetic()]
    arguments += [f"--data.root={tmp_path / 'videos'}", f"--trainer.logger.save_dir={tmp_path}"]
    assert main(arguments) == 0
    (last,) = tmp_path.glob("quickstart/version_0/checkpoints/last.ckpt")
    scheduler = torch.load(last, weights_only=True)["lr_schedulers"][0]
    assert scheduler["T_max"] == 2  # the subclass's cosine, not the base's steps
    assert main(["export", str(last), "--out", "cosine.safetensors"]) == 0
    assert type(load_module(last)).__name__ == "CosineUMEC"


@pytest.mark.slow
def test_two_processes_score_as_one_does_and_train_together(checkpoint, youtube, davis, tmp_path):
    """J&F does not depend on the number of processes, every mask is written, V and D may be unused in warm-up."""

    def run(arguments: list[str]) -> str:
        command = [str(Path(sys.executable).parent / "vos-umec"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    common = ["--config", "configs/davis17.yaml", f"--data.root={davis}", f"--ckpt_path={checkpoint}"]
    common += ["--trainer.enable_progress_bar=false", "--trainer.precision=32-true"]
    figures = []
    for name, devices in (("one", ["--trainer.accelerator=cpu"]), ("two", two)):
        start = main if name == "one" else run
        start(["validate", *common, *devices, f"--trainer.logger.save_dir={tmp_path / name}"])
        table = (tmp_path / name / "davis17" / "version_0" / "metrics.csv").read_text().splitlines()
        figures.append(dict(zip(table[0].split(","), table[-1].split(","), strict=True)))
    for label in ("val/J&F", "val/J-Mean", "val/F-Mean", "val/F-Decay"):
        assert float(figures[0][label]) == pytest.approx(float(figures[1][label]), abs=1e-6)
    pictures = [tmp_path / name / "davis17" / "version_0" / "validation.png" for name in ("one", "two")]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()  # the second process's sequences are on it as well

    run(["predict", *common, *two, f"--trainer.logger.save_dir={tmp_path / 'two'}"])  # of 3 sequences: 2 and 1
    assert len(list((tmp_path / "two").glob("davis17/*/predictions/*/*.png"))) == 3 * VIDEOS["frames"]

    arguments = ["fit", "--config", "configs/ytvos_resnet18.yaml", f"--data.root={youtube}", *SMALL, *two]
    arguments += [f"--data.val_root={davis}", "--data.mask_phase_batch_size=2"]
    told = run([*arguments, f"--trainer.logger.save_dir={tmp_path}"])
    assert "train/seg" in next(tmp_path.glob("ytvos_resnet18/version_0/metrics.csv")).read_text()
    assert told.count("best by val/J&F") == 1  # the callback found the figure on both ranks


@pytest.mark.slow
def test_a_run_of_an_encoder_by_class_in_the_users_folder_leaves_his_files_and_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("# mine\nmodel:\n  class_path: vos_umec.UMECModule\n")
    encoder = "{class_path: vos_umec.TrunkEncoder, init_args: {blocks: [1, 1], strides: [1, 1]}}"
    arguments = ["fit", "--config", "configs/quickstart.yaml", "--config", "config.yaml", *_small_synthetic()]
    arguments += ["--data.root=videos", "--trainer.logger=false"]
    arguments += [
        f"--model.network={{preset: null, encoder: {encoder}}}",
        "--model.evaluation.segmenter={rounds: 0}",
    ]
    assert main(arguments) == 0
    assert Path("config.yaml").read_text().startswith("# mine")
    assert "TrunkEncoder" in Path("vos_umec_config.yaml").read_text()
    (last,) = Path.cwd().rglob("last.ckpt")
    assert type(load(last).encoder).__name__ == "TrunkEncoder"


@pytest.mark.slow
def test_a_data_module_of_ones_own_trains_from_the_command_line(tmp_path, monkeypatch, caplog):
    (tmp_path / "my_data.py").write_text(
        "import torch\nfrom pytorch_lightning import LightningDataModule\n\n\n"
        "class Noise(LightningDataModule):\n"
        "    def train_dataloader(self):\n"
        "        clip = {'frames': torch.rand(3, 3, 32, 32), 'frame_indices': 5 * torch.arange(3)}\n"
        "        return torch.utils.data.DataLoader([clip] * 4, batch_size=2)\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "--model=vos_umec.UMECModule", "--model.network=tiny", "--data=my_data.Noise"]
    arguments += ["--trainer.max_epochs=1", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    assert main(arguments) == 0
    assert "Noise is no ClipDataModule" in caplog.text


def test_an_accelerator_that_is_not_there_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config=configs/quickstart.yaml", "--trainer.accelerator=tpu"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("vos-umec: error: ")
