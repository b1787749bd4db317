"""Scoring a network beside its baselines."""

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

from vos_umec import UMECModule
from vos_umec.data.sequences import VideoSequence
from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.errors import DataError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.factory import build_network
from vos_umec.training.evaluation import COPY, PROPAGATION, WHOLE, SequenceEvaluation


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> list[VideoSequence]:
    video = SyntheticVOS(tmp_path_factory.mktemp("made"), train_videos=1, val_videos=2, frames=7, size=(48, 64))
    video.prepare()
    return list(video.val_sequences())


@pytest.mark.parametrize(
    "settings",
    [
        {"rounds": 2},
        {"rounds": 1, "memory_masks": "coarse", "repeat_first": True},
        {"rounds": 1, "memory_masks": "coarse", "weigh_memory": True},
        {"rounds": 1, "search_margin": 2},
    ],
)
def test_what_the_baselines_share_with_the_model_changes_no_figure(sequences, settings, monkeypatch):
    torch.manual_seed(0)
    network = build_network("tiny").eval()
    with torch.no_grad():  # an untrained decoder hands the coarse mask on
        network.decoder.out.weight.normal_(std=0.1)
    settings = {"short_side": 48, "references": 3, "readout": {"radius": 4, "top_k": 5}, **settings}
    searches = []
    readout = VideoSegmenter._readout
    monkeypatch.setattr(
        VideoSegmenter, "_readout", lambda self, key: searches.append(self.rounds) or readout(self, key)
    )
    beside = SequenceEvaluation(network, settings, baselines=True)
    for sequence in sequences:
        beside.update(sequence)
    # Label propagation's serve the model, too, but where the search asks where objects were seen.
    assert set(searches) == ({0, 1} if "search_margin" in settings else {0})
    alone = {
        WHOLE: SequenceEvaluation(network, settings, baselines=False),
        PROPAGATION: SequenceEvaluation(network, {**settings, "rounds": 0}, baselines=False),
    }
    rows = beside.rows()
    assert list(rows) == [COPY, PROPAGATION, WHOLE]
    for method, evaluation in alone.items():
        for sequence in sequences:
            evaluation.update(sequence)
        assert evaluation.rows()[method] == rows[method]
    assert rows[WHOLE] != rows[PROPAGATION]
    for method, curves in beside.gathered_curves().items():
        means = [(each["sequence"], each["object"], float(np.mean(each["J"]))) for each in curves]
        assert means == [(row["sequence"], row["object"], row["J-Mean"]) for row in rows[method]]
    assert [each.kind for each in beside.frames] == ["shown", "shown"]


def test_predictions_replace_no_file_of_somebody_else(sequences, tmp_path):
    sequence = sequences[0]
    module = UMECModule("tiny", evaluation={"segmenter": {"rounds": 0, "short_side": 32}}).eval()
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    module.written = tmp_path / "predictions"
    for _ in range(2):
        module.predict_step(sequence, 0)
    masks = sorted((module.written / sequence.name).iterdir())
    assert len(masks) == 7
    masks[1].write_text("mine")
    with pytest.raises(DataError, match=rf"{masks[1].name}\): choose another folder for the run"):
        module.predict_step(sequence, 0)
    assert masks[1].read_text() == "mine"
