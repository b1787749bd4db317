import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference import refinement
from vos_umec.inference.refinement import FrameRefiner, Window, object_windows
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.factory import build_network


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 6), st.integers(0, 10_000))
def test_a_window_lies_in_the_grid_and_holds_the_object_and_its_margin(h, w, margin, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(2, h, w, generator=generator) < 3 / (h * w)).float()
    for mask, window in zip(masks, object_windows(masks, margin), strict=True):
        assert 0 <= window.top <= window.top + window.height <= h
        assert 0 <= window.left <= window.left + window.width <= w
        for y, x in mask.nonzero().tolist():
            assert window.top <= max(y - margin, 0)
            assert min(y + margin, h - 1) < window.top + window.height
            assert window.left <= max(x - margin, 0)
            assert min(x + margin, w - 1) < window.left + window.width


def test_an_object_seen_nowhere_has_a_window_where_it_is_likeliest():
    mask = torch.zeros(1, 20, 20)
    mask[0, 15, 3] = 0.01
    (window,) = object_windows(mask, margin=1)
    assert (window.height, window.width) == (4, 4)
    assert window.cut(mask[0], 20).sum() > 0
    (window,) = object_windows(torch.zeros(1, 20, 20), margin=1)  # not seen at all: no work for the whole frame
    assert (window.height, window.width) == (4, 4)


@pytest.mark.parametrize(("device", "margin"), [("cpu", 4), ("meta", None)])
def test_without_another_setting_windows_are_for_cpus(device, margin):
    network = build_network("tiny").to(device)
    assert VideoSegmenter(network).crop_margin == margin
    assert VideoSegmenter(network, crop_margin=2).crop_margin == 2
    assert VideoSegmenter(network, crop_margin=None).crop_margin is None


@pytest.fixture(params=[False, True], ids=["the paper's decoder", "decoder that sees the frame and the evidence"])
def scene(request):
    torch.manual_seed(0)
    options = {"image_dim": 8, "evidence": True} if request.param else {}
    network = build_network({"preset": "tiny", "decoder": {"residual": False, **options}}).eval()
    frame, coarse, V_q = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 16, 24), torch.rand(1, 3, 48, 16, 24)
    sure = torch.rand(1, 3, 4, 16, 24)
    with torch.inference_mode():
        return network, frame, network.encoder(frame), coarse, V_q, sure


@pytest.mark.parametrize("objects_at_once", [1, 2, 8])
def test_over_the_whole_grid_it_is_what_the_network_does(scene, monkeypatch, objects_at_once):
    monkeypatch.setattr(refinement, "CPU_OBJECTS", objects_at_once)
    network, frame, features, coarse, V_q, sure = scene
    windows = object_windows(coarse[0], margin=None)
    with torch.inference_mode():
        refiner = FrameRefiner(network, frame, features)
        enlarged = F.interpolate(coarse, size=(64, 96), mode="bilinear")
        p = refiner.refine(
            enlarged[0], windows, lambda k, window: V_q[0, k], lambda k: sure[0, k], rounds=2
        ).softmax(dim=0)[1:]
        values = refiner.embed(p, windows)
        expected = network.decode(frame, features, V_q, coarse, rounds=2, evidence=sure)[-1].softmax(dim=1)[:, 1:]
        expected_values = network.embed(frame, features, expected)
    torch.testing.assert_close(p[None], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(values.permute(2, 3, 0, 1)[None], expected_values, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("second", [Window(4, 8, 8, 8), Window(4, 4, 12, 16)])  # of another size, and of the same
def test_deep_inside_a_window_nothing_changes_and_outside_there_is_nothing(scene, monkeypatch, second):
    monkeypatch.setattr(refinement, "CPU_OBJECTS", 8)
    network, frame, features, *_, sure = scene
    masks = torch.zeros(2, 64, 96)
    masks[:, 24:40, 40:56] = 1
    windows = [Window(2, 4, 12, 16), second]
    with torch.inference_mode():
        refiner = FrameRefiner(network, frame, features)
        values = refiner.embed(masks, windows)
        whole = refiner.embed(masks, object_windows(network.to_grid(masks), None))
        logits = refiner.refine(
            masks, windows, lambda k, w: w.cut(whole[:, :, k].permute(2, 0, 1), 16), lambda k: sure[0, k], 1
        )
        p = logits.softmax(dim=0)[1:]
    error = (values - whole)[:, :, 0].norm(dim=-1) / whole[:, :, 0].norm(dim=-1)  # (16, 24)
    assert error[6:10, 10:14].max() < 0.05
    for k, window in enumerate(windows):
        inside = torch.zeros(16, 24, dtype=torch.bool)
        window.cut(inside, 16).fill_(True)
        assert (values[:, :, k][~inside] == 0).all()
        assert p[k][~inside.repeat_interleave(4, 0).repeat_interleave(4, 1)].max() < 1e-6
