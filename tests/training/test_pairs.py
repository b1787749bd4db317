"""At the first step a training says which pairs of frames its terms have, and refuses one that has none."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer

from vos_umec import UMECModule, YouTubeVOSDataModule
from vos_umec.errors import ConfigError

BOTH = {"class_path": "vos_umec.EquivarianceObjective"}
DENSE = {"class_path": "vos_umec.DenseContrastObjective"}
RUNS = {"gap": 1, "run_length": 3, "run_gap": (10, 40)}


@pytest.fixture(scope="module")
def ytvos(tmp_path_factory) -> Path:
    """Two videos of 80 frames, as the usual download with every 5th frame and as the one of all frames."""
    root, chance = tmp_path_factory.mktemp("ytvos"), np.random.default_rng(0)
    for name in ("a", "b"):
        for t in range(80):
            picture = Image.fromarray(chance.integers(0, 255, (40, 56, 3), dtype=np.uint8))
            for part in ("train", "train_all_frames") if t % 5 == 0 else ("train_all_frames",):
                folder = root / part / "JPEGImages" / name
                folder.mkdir(parents=True, exist_ok=True)
                picture.save(folder / f"{t:05d}.png")
    return root


def fit(root: Path, folder: Path, objectives=(BOTH,), **clips) -> None:
    data = YouTubeVOSDataModule(
        str(root), short_side=40, crop=32, batch_size=2, num_workers=0, store=str(folder), **clips
    )
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(UMECModule("tiny", objectives=list(objectives)), data)


@pytest.mark.parametrize(("all_frames", "near"), [(True, "1 to 2"), (False, "5 to 5")])
def test_runs_give_both_terms_their_pairs_in_either_download(all_frames, near, ytvos, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="vos_umec"):
        fit(ytvos, tmp_path, objectives=[BOTH, DENSE], all_frames=all_frames, **RUNS)
    told = [record.getMessage() for record in caplog.records if "first batch" in record.getMessage()]
    assert len(told) == 2, "once in a training, for each objective"
    assert f"EquivarianceObjective: {8 if all_frames else 6} pairs {near} frames apart (median" in told[0]
    assert " pairs " in told[0].split(";")[1]
    assert "DenseContrastObjective: 20 pairs" in told[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"all_frames": True, "gap": 1}, r"no pair of frames for the long term .*1 to 4 frames apart"),
        ({"all_frames": False, "gap": 2}, r"no pair of frames for the short term .*10 to 40 frames apart"),
    ],
)
def test_clips_without_a_pair_for_a_term_end_the_training_before_its_first_step(options, message, ytvos, tmp_path):
    with pytest.raises(ConfigError, match=message):
        fit(ytvos, tmp_path, **options)
    short_only = {**BOTH, "init_args": {"w_long": 0.0}}
    if options["all_frames"]:
        fit(ytvos, tmp_path, objectives=[short_only], **options)


def test_a_batch_of_too_short_videos_is_refused_at_the_first_step_only():
    module = UMECModule("tiny", objectives=[BOTH])
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.on_train_batch_start({"frame_indices": torch.tensor([[0, 1, 20, 21]])}, 0)
    module.on_train_batch_start({"frame_indices": torch.tensor([[0, 1, 0, 1]])}, 1)
