"""L_seg of a batch: which clips, frames and rounds it is taken from."""

import json
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from vos_umec.errors import ConfigError
from vos_umec.models.factory import build_network
from vos_umec.objectives import segmentation
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.propagation import propagate_masks
from vos_umec.objectives.segmentation import SegmentationObjective, segmentation_loss


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_the_coarse_mask_has_a_loss_of_its_own_only_where_no_round_refines_it(rounds, monkeypatch):
    """The mean over queries and rounds 1 to R, of the one clip with an object; of round 0 where R = 0."""
    calls = []

    def recorded(*arguments):
        calls.append((*arguments[:4], propagate_masks(*arguments)))
        return calls[-1][-1]

    monkeypatch.setattr(segmentation, "propagate_masks", recorded)
    network = build_network("tiny")
    frames = torch.rand(2, 4, 3, 32, 32)
    frames[:, :, 0, 0, 0] = torch.arange(4.0)  # tells the frames of a clip apart
    segments = torch.full((2, 4, 32, 32), 255, dtype=torch.uint8)
    segments[1] = 0
    for t in range(4):
        segments[1, t, 4:20, 2 * t : 2 * t + 12] = 7
    clip = EncodedClip(network.encoder, frames, torch.arange(4).expand(2, 4))
    assert clip.features is not None  # all frames are encoded, as for L_corr
    loss = SegmentationObjective(max_objects=1, queries=2, rounds=rounds)(network, clip, segments)

    ((_, used, features, masks, outputs),) = calls
    chosen = used[0, :, 0, 0, 0].long().tolist()
    assert chosen in ([0, 1, 2], [0, 1, 3], [0, 2, 3])
    assert torch.equal(used, frames[1:, chosen])
    assert torch.equal(features.key, clip.keys[1, chosen])
    assert torch.equal(masks[0, :, 0] == 1, segments[1, chosen] == 7)
    charged = range(1, rounds + 1) if rounds else [0]
    exists, known = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 32, 32, dtype=torch.bool)
    losses = [segmentation_loss(outputs[q][r], masks[:, q + 1], exists, known) for q in range(2) for r in charged]
    torch.testing.assert_close(loss, sum(losses) / len(losses))
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in network.encoder.parameters())  # through the affinity


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"drift": -1}, "drift -1"),
        ({"fade": 1.5}, "fade 1.5.*a fraction"),
        ({"memory_masks": "coarse"}, "memory_masks 'coarse'.*a list of final, coarse, coarse_vote"),
        ({"memory_masks": ["soft"]}, "soft"),
        ({"memory_masks": []}, "a list of"),
        ({"queries": 0}, "queries.*1 or more"),
        ({"own_mask_probability": 1.5}, "own_mask_probability 1.5"),
    ],
)
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        SegmentationObjective(**settings)


@pytest.mark.parametrize(("frames", "drifts"), [(4, {0, 1}), (8, {0, 1, 2, 3})])
def test_masks_drift_through_up_to_so_many_frames_as_the_clip_has(frames, drifts, monkeypatch):
    """The frames that drift come before the queries, none of a clip more than once; the loss is of the queries."""
    calls = []

    def recorded(network, clips, features, masks, *arguments):
        calls.append((clips, arguments))
        return propagate_masks(network, clips, features, masks, *arguments)

    monkeypatch.setattr(segmentation, "propagate_masks", recorded)
    torch.manual_seed(0)
    network = build_network("tiny")
    clips = torch.zeros(1, frames, 3, 32, 32) + torch.arange(float(frames))[:, None, None, None]
    segments = torch.zeros(1, frames, 32, 32, dtype=torch.uint8)
    segments[:, :, 4:20, 4:16] = 7
    objective = SegmentationObjective(1, 2, rounds=1, drift=3, memory_masks=["coarse", "final"])
    for _ in range(20):
        assert objective(network, EncodedClip(network.encoder, clips, torch.arange(frames)[None]), segments) > 0
    kept = {arguments[-3] for _, arguments in calls}
    assert kept == {"coarse", "final"}
    assert {arguments[-2] for _, arguments in calls} == drifts
    for used, arguments in calls:
        places = used[0, :, 0, 0, 0].tolist()
        assert places == sorted(set(places))
        assert (places[0], len(places)) == (0, 1 + arguments[-2] + 2)


def record(rank: int, folder: str) -> None:
    """Draw drift and memory of some steps on one of two processes, each with a seed of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(rank)
    network, found = build_network("tiny"), []

    def recorded(*arguments):
        found.append((arguments[-2], arguments[-1], len(arguments[1][0])))
        return propagate_masks(*arguments)

    segments = torch.zeros(1, 6, 32, 32, dtype=torch.uint8)
    segments[:, :, 4:20, 4:16] = 7
    objective = SegmentationObjective(1, 1, rounds=1, drift=4, memory_masks=["coarse", "final"])
    with mock.patch.object(segmentation, "propagate_masks", recorded):
        for _ in range(12):
            objective(
                network, EncodedClip(network.encoder, torch.rand(1, 6, 3, 32, 32), torch.arange(6)[None]), segments
            )
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_all_processes_draw_one_drift_and_one_memory(run_processes, tmp_path):
    """V then runs as often on each. Else batch norms that await all processes would wait for ever."""
    run_processes(record, (str(tmp_path),), 2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len({tuple(step) for step in first}) > 4
