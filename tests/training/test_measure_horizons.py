"""Scores by horizon against a plain run of each segmenter from each start."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vos_umec.data.sequences import VideoSequence
from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.errors import ConfigError, DataError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.metrics.jf import boundary_f
from vos_umec.models.factory import build_network
from vos_umec.training.horizon import measure_horizons

COMMON = {"short_side": 48, "references": 3, "readout": {"radius": 4, "top_k": 5}}
SEGMENTERS = {
    "label_propagation": {**COMMON, "rounds": 0},
    "final": {**COMMON, "rounds": 1},
    "coarse": {**COMMON, "rounds": 2, "memory_masks": "coarse", "max_extent": 4.0},
    "weighed": {**COMMON, "rounds": 1, "memory_masks": "coarse", "weigh_memory": True},
    "wide": {**COMMON, "rounds": 1, "readout": {"radius": 8, "top_k": 5}},
}
STARTS = {  # of three: the frames that are scored, by horizon
    "val_000": {0: {1: 1, 4: 4, 8: 8, "end": 10}, 3: {1: 4, 4: 7}, 7: {1: 8}},
    "val_001": {0: {4: 4, 8: 8, "end": 10}},  # no object is shown at 4, nothing is annotated 1, 4 or 8 after 8
}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> list[VideoSequence]:
    """One sequence with all its masks, and one with every second, of which one shows nothing."""
    root = tmp_path_factory.mktemp("made")
    video = SyntheticVOS(root, train_videos=1, val_videos=2, frames=11, size=(48, 64))
    video.prepare()
    whole, sparse = video.val_sequences()
    write_mask(root / "nothing.png", np.zeros((48, 64), np.uint8))
    annotations = {t: mask for t, mask in sparse.annotations.items() if t % 2 == 0}
    return [whole, replace(sparse, annotations={**annotations, 4: root / "nothing.png"})]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_network("tiny").eval()
    with torch.no_grad():  # an untrained decoder hands the coarse mask on
        network.decoder.out.weight.normal_(std=0.1)
    return network


def plain_rows(network, sequence):
    source = sequence.source()
    for start, horizons in STARTS[sequence.name].items():
        prompt = read_mask(sequence.annotations[start])
        for method, settings in SEGMENTERS.items():
            segmenter = VideoSegmenter.from_protocol(network, **settings)
            found = {start: segmenter.step(source.read([start])[0], prompt)}
            for t in range(start + 1, len(source)):
                found[t] = segmenter.step(source.read([t])[0])
            for horizon, t in horizons.items():
                truth = read_mask(sequence.annotations[t])
                for k in {*prompt.ravel().tolist()} - {0}:
                    ours, true = found[t] == k, truth == k
                    j = (ours & true).sum() / (ours | true).sum() if (ours | true).any() else 1.0
                    f = boundary_f(ours[None], true[None])[0]
                    yield (sequence.name, k, start, method, horizon, t), (j, f, (j + f) / 2)


def test_every_row_is_that_of_a_segmenter_on_its_own(network, sequences):
    shown = []
    scores = measure_horizons(
        network, sequences, SEGMENTERS, horizons=[8, 1, 4, 4], progress=lambda runs: shown.append(len(runs)) or runs
    )
    names = ("sequence", "object", "start", "method", "horizon", "frame")
    found = {tuple(row[name] for name in names): (row["J"], row["F"], row["J&F"]) for row in scores.rows}
    expected = dict(row for sequence in sequences for row in plain_rows(network, sequence))
    assert len(found) == len(scores.rows)
    assert found == expected
    assert scores.methods == list(SEGMENTERS)
    assert len({tuple(scores.values(method, 4, "J").values()) for method in SEGMENTERS}) == len(
        SEGMENTERS
    )  # none is like another
    assert shown == [5]  # the starts with a frame to score


def test_the_encoder_and_the_search_run_once_for_all_that_search_alike(network, sequences, monkeypatch):
    calls = []
    for name in ("_encode", "_readout"):
        original = getattr(VideoSegmenter, name)
        monkeypatch.setattr(
            VideoSegmenter,
            name,
            lambda self, x, name=name, original=original: (
                calls.append((name, self.readout.radius)) or original(self, x)
            ),
        )
    measure_horizons(network, sequences[:1], SEGMENTERS, horizons=[2], starts=2)
    frames = 11 + 3  # 0 to 10, and 5 to 7
    expected = {("_encode", radius): frames for radius in (4, 8)} | {
        ("_readout", radius): frames - 2 for radius in (4, 8)
    }
    assert {call: calls.count(call) for call in calls} == expected


def test_what_cannot_be_measured_is_refused(network, sequences):
    lonely = replace(sequences[0], annotations={0: sequences[0].annotations[0]})
    for error, told, arguments in (
        (ConfigError, "starts is 0", {"starts": 0}),
        (ConfigError, "horizons are", {"horizons": [0, 4]}),
        (ConfigError, "horizons are", {"horizons": []}),
        (ConfigError, "no segmenter", {"segmenters": {}}),
        (ConfigError, "radiuss", {"segmenters": {"umec": {"radiuss": 4}}}),
        (DataError, "nothing to score in 1 sequences", {"sequences": [lonely]}),
    ):
        with pytest.raises(error, match=told):
            measure_horizons(network, **{"sequences": sequences, "segmenters": SEGMENTERS, **arguments})
