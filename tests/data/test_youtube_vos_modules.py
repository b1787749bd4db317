import json
from pathlib import Path

import pytest
from module_toys import TINY, FrameFolder, Recorder, trainer
from PIL import Image

from vos_umec.data.datamodules import YouTubeVOSDataModule
from vos_umec.data.evaluation_datamodules import YouTubeVOSPredictDataModule
from vos_umec.errors import ConfigError, DataError


@pytest.fixture
def ytvos(tmp_path: Path, frame_folder: FrameFolder) -> Path:
    """Three videos of train; video a is annotated on its second frame and there with every frame, too."""
    for name in "abc":
        frame_folder(tmp_path / "ytvos" / "train" / "JPEGImages" / name, frames=4, step=5)
    frame_folder(tmp_path / "ytvos" / "train_all_frames" / "JPEGImages" / "a", frames=16)
    mask = tmp_path / "ytvos" / "train" / "Annotations" / "a" / "00005.png"
    mask.parent.mkdir(parents=True)
    Image.new("P", (30, 20), 3).save(mask)
    objects = {"3": {"category": "dog", "frames": ["00005", "00010"]}}
    meta = {"videos": {"a": {"objects": objects}}}
    (tmp_path / "ytvos" / "train" / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "held_out.txt").write_text("a\n")
    return tmp_path / "ytvos"


def test_held_out_videos_are_not_trained_on(ytvos: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.txt"
    model = Recorder()
    module = YouTubeVOSDataModule(str(ytvos), held_out=str(held_out), num_workers=0, gap=1, **TINY)
    trainer(tmp_path).fit(model, datamodule=module)
    assert [entry.id for entry in module.index] == ["b", "c"]
    assert sorted(name for name, _ in model.clips[0]) == ["b", "c"]
    for names, found in (("a\nx\n", "holds out x"), ("a\nb\nc\n", "holds out all 3 videos")):
        held_out.write_text(names)
        with pytest.raises(DataError, match=found):
            YouTubeVOSDataModule(str(ytvos), held_out=str(held_out), **TINY).setup("fit")


def test_predict_reads_every_frame_and_names_those_asked_for(
    ytvos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = YouTubeVOSPredictDataModule(str(ytvos), split="train", videos=str(tmp_path / "held_out.txt"))
    assert trainer(tmp_path).predict(Recorder(), datamodule=module) == ["a"]
    (a,) = module.sequences
    assert (len(a.source()), a.required, sorted(a.prompts)) == (16, (5, 10), [5])
    assert "train_all_frames" not in caplog.text
    module = YouTubeVOSPredictDataModule(str(ytvos), split="train", all_frames=False)
    module.setup("predict")
    assert (len(module.sequences[0].source()), module.sequences[0].required) == (4, (1, 2))
    assert "train_all_frames" in caplog.text


@pytest.mark.parametrize("stage", ["validate", "test", "fit"])
def test_youtube_vos_has_no_scores_by_the_rules_of_davis(ytvos: Path, stage: str) -> None:
    with pytest.raises(ConfigError, match=f"`{stage}`: use `vos-umec predict`"):
        YouTubeVOSPredictDataModule(str(ytvos), split="train").setup(stage)
