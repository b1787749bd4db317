"""Synthetic scenes: masks, motion, textures, and what is drawn of them."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.data.synthetic.motion import Pose, smooth_curve, walk
from vos_umec.data.synthetic.objects import Body, Part, canvas_grid
from vos_umec.data.synthetic.scene import Actor, Scene, compose
from vos_umec.data.synthetic.textures import Palette, power_law_noise, texture
from vos_umec.errors import ConfigError

SIZE = (48, 80)


def disc(*poses: Pose, label: int = 1, color: torch.Tensor | None = None) -> Actor:
    """A disc of radius 1; its canvas is fine enough that the outline is exact to 0.001 units."""
    x, y = canvas_grid(1.5, 64.0)
    level = torch.from_numpy(1 - np.hypot(x, y)).float()
    rgb = torch.ones(3, *level.shape) if color is None else color
    part = Part(torch.cat([rgb, level[None]]), 1.5, (0.0, 0.0), np.zeros(len(poses)))
    return Actor(Body((part,), 1.5), poses, label)


def scene(video: int, frames: int = 4) -> Scene:
    return Scene.sample([7, 1, video], SIZE, frames, (1, 3))


@pytest.mark.parametrize("center", [(20.0, 16.0), (20.3, 15.8), (2.5, 30.5)])
def test_mask_of_a_disc_is_the_pixels_whose_centers_it_holds(center: tuple[float, float]) -> None:
    ids = compose(torch.zeros(3, 32, 40), [disc(Pose(center, 9.0), label=5)], 0).numpy()
    row, column = np.indices((32, 40)) + 0.5
    distance = np.hypot(column - center[0], row - center[1])
    clear = np.abs(distance - 9.0) > 0.02
    np.testing.assert_array_equal(ids[clear], np.where(distance < 9.0, 5, 0)[clear])


def test_edge_pixels_are_blended_by_the_share_of_their_area() -> None:
    picture = torch.zeros(3, 32, 40)
    compose(picture, [disc(Pose((20.3, 15.8), 9.0))], 0)
    fine = (np.arange(40 * 16) + 0.5) / 16
    inside = np.hypot(fine[None] - 20.3, fine[: 32 * 16, None] - 15.8) < 9.0
    area = inside.reshape(32, 16, 40, 16).mean(axis=(1, 3))
    assert np.abs(picture[0].numpy() - area).max() < 0.12  # the outline is taken as straight and axis-parallel
    assert abs(picture[0].sum().item() - math.pi * 81) < 2.0


def test_mask_of_a_deformed_disc_follows_the_written_deformation() -> None:
    pose = Pose((21.0, 17.0), 8.0, 0.7, stretch=1.2, waves=(0.1, 0.15), phases=(0.4, -1.0), frequencies=(2.0, 3.0))
    ids = compose(torch.zeros(3, 36, 44), [disc(pose)], 0).numpy()
    v, u = np.indices((36, 44)) + 0.5 - np.array([17.0, 21.0])[:, None, None]
    x = (math.cos(0.7) * u + math.sin(0.7) * v) / 8.0 / 1.2
    y = (math.cos(0.7) * v - math.sin(0.7) * u) / 8.0 * 1.2
    y = y + 0.1 * np.sin(2.0 * x + 0.4)
    x = x + 0.15 * np.sin(3.0 * y - 1.0)
    clear = np.abs(1 - np.hypot(x, y)) > 0.01
    np.testing.assert_array_equal(ids[clear], (np.hypot(x, y) < 1)[clear])
    assert ids.sum() > 150  # of about 201 pixels


@pytest.mark.parametrize("video", range(6))
def test_mask_names_whoever_painted_most_of_the_pixel(video: int) -> None:
    actors = [replace(actor, shadow=0.0) for actor in scene(video).actors]
    ids = compose(torch.zeros(3, *SIZE), actors, 3)
    clear = torch.zeros(SIZE, dtype=torch.bool)
    background = torch.ones(SIZE)
    for lit in actors:  # one picture for each actor: it is white, everything else black
        cast = []
        for actor in actors:
            parts = tuple(
                replace(p, canvas=torch.cat([torch.full_like(p.canvas[:3], float(actor is lit)), p.canvas[3:]]))
                for p in actor.body.parts
            )
            cast.append(replace(actor, body=replace(actor.body, parts=parts)))
        picture = torch.zeros(3, *SIZE)
        compose(picture, cast, 3)
        background -= picture[0]
        assert (ids[picture[0] > 0.5001] == lit.label).all()
        clear |= picture[0] > 0.5001
    assert (ids[background > 0.5001] == 0).all()
    assert (clear | (background > 0.5001)).float().mean() > 0.98  # the rest: edges of three surfaces
    assert (ids > 0).any()


def test_an_occluder_in_front_is_background_in_the_mask() -> None:
    large, small = disc(Pose((20.0, 16.0), 9.0), label=2), disc(Pose((20.0, 16.0), 4.0), label=0)
    ids = compose(torch.zeros(3, 32, 40), [large, small], 0)
    assert (ids[16, 20], ids[16, 26]) == (0, 2)
    assert compose(torch.zeros(3, 32, 40), [small, large], 0)[16, 20] == 2


def test_texture_moves_with_its_object() -> None:
    noise = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(0))
    poses = [Pose((16.0, 20.0), 10.0), Pose((23.0, 17.0), 10.0), Pose((16.0, 20.0), 10.0, angle=math.pi / 2)]
    actor = disc(*poses, color=torch.nn.functional.avg_pool2d(noise, 9, 1, 4))
    first, moved, turned = (torch.zeros(3, 40, 40) for _ in range(3))
    for t, picture in enumerate((first, moved, turned)):
        compose(picture, [actor], t)
    around = first[:, 9:31, 5:27]
    torch.testing.assert_close(moved[:, 6:28, 12:34], around)
    clockwise = torch.rot90(around, -1, (1, 2))
    torch.testing.assert_close(turned[:, 9:31, 5:27], clockwise, atol=2e-4, rtol=0)


def test_a_camera_at_rest_sees_the_middle_of_the_background() -> None:
    levels = torch.randint(0, 256, (3, 76, 128), generator=torch.Generator().manual_seed(0))
    still = np.array([[[80 / 128, 0.0, 0.0], [0.0, 48 / 76, 0.0]]])
    shifted = still + np.array([[0.0, 0.0, 2 * 5 / 128], [0.0, 0.0, -2 * 3 / 76]])  # 5 to the right, 3 up
    views = np.concatenate([still, shifted])
    made = Scene(SIZE, levels / 255, views, gain=np.ones((2, 3)), noise=0.0, actors=(), seed=0)
    for frame, corner in zip((made.draw(0)[0], made.draw(1)[0]), ((14, 24), (11, 29)), strict=True):
        seen = levels[:, corner[0] : corner[0] + 48, corner[1] : corner[1] + 80].permute(1, 2, 0).numpy()
        assert np.abs(frame.astype(int) - seen).max() <= 1


@given(st.integers(2, 6), st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_smooth_curve_meets_its_knots(n: int, between: int, seed: int) -> None:
    knots = np.random.default_rng(seed).normal(size=(n, 2))
    curve = smooth_curve(knots, (n - 1) * between + 1)
    np.testing.assert_allclose(curve[::between], knots, atol=1e-9)


def test_smooth_curve_keeps_its_velocity_at_knots() -> None:
    velocity = np.diff(smooth_curve(np.random.default_rng(0).normal(size=(5, 1)), 4001)[:, 0])
    assert np.abs(np.diff(velocity)).max() < 0.02 * np.abs(velocity).max()


@pytest.mark.parametrize("seed", range(5))
def test_walk_stays_about_the_frame(seed: int) -> None:
    path = walk(np.random.default_rng(seed), 200, np.array([50.0, 60.0]), (192, 320), 40)
    np.testing.assert_allclose(path[0], (50.0, 60.0))
    assert ((path > -20) & (path < (340, 212))).all()
    assert np.ptp(path, axis=0).max() > 80


@pytest.mark.parametrize("exponent", [0.7, 1.2, 2.0])
def test_noise_has_the_spectrum_asked_for(exponent: float) -> None:
    noise = power_law_noise(np.random.default_rng(0), (8, 128, 128), exponent)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    used = (frequency > 0.03) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0]
    assert slope == pytest.approx(-2 * exponent, abs=0.1)


def test_textures_are_varied_and_in_range() -> None:
    rng = np.random.default_rng(0)
    made = np.stack([texture(rng, (32, 40), Palette(rng, np.log([0.4] * 3))) for _ in range(20)])
    assert made.shape == (20, 32, 40, 3)
    assert 0 <= made.min() <= made.max() <= 1
    assert made.std(axis=(1, 2)).max(axis=1).min() > 0.01  # never a flat color
    assert made.mean(axis=(1, 2)).std(axis=0).min() > 0.04


def test_scenes_are_determined_by_their_seed_in_every_process() -> None:
    drawn = b"".join(array.tobytes() for array in scene(3).draw(2))
    code = (
        "import hashlib, torch; from vos_umec.data.synthetic.scene import Scene; torch.set_num_threads(2);"
        "drawn = Scene.sample([7, 1, 3], (48, 80), 4, (1, 3)).draw(2);"
        "print(hashlib.sha256(b''.join(array.tobytes() for array in drawn)).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == hashlib.sha256(drawn).hexdigest()
    one, other = scene(3).draw(0)[0].astype(int), scene(4).draw(0)[0].astype(int)
    assert np.abs(one - other).mean() > 10


@pytest.mark.parametrize("video", range(12))
def test_every_object_shows_in_the_first_frame(video: int) -> None:
    made = scene(video, frames=2)
    labels = sorted({actor.label for actor in made.actors} - {0})
    assert labels == list(range(1, len(labels) + 1))
    ids = made.draw(0)[1]
    assert all((ids == label).mean() >= 0.01 for label in labels)
    assert set(np.unique(ids)) <= {0, *labels}


def test_scenes_are_hard_to_copy_and_have_look_alikes_and_occluders() -> None:
    overlaps, extras = [], 0
    for video in range(8):
        made = scene(video, frames=40)
        masks = np.stack([compose(torch.zeros(3, *SIZE), made.actors, t).numpy() for t in range(0, 40, 6)])
        extras += any(actor.label == 0 for actor in made.actors)
        for label in np.unique(masks[0])[1:]:
            both, either = (masks == label) & (masks[:1] == label), (masks == label) | (masks[:1] == label)
            overlaps.append((both.sum(axis=(1, 2)) / either.sum(axis=(1, 2)))[1:].mean())
    assert 0.1 < np.mean(overlaps) < 0.5
    assert extras >= 3


def test_too_many_objects_end_in_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vos_umec.data.synthetic.scene.SMALLEST_SHARE", 0.9)
    monkeypatch.setattr("vos_umec.data.synthetic.scene.ATTEMPTS", 3)
    with pytest.raises(ConfigError, match=r"2 objects .* 48 x 80 in 3 attempts"):
        Scene.sample([0], SIZE, 2, (2, 2))
