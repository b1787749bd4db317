"""Made scenes: masks, motion, textures, and what is drawn of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.data.synthetic_compose import Actor, compose
from vos_umec.data.synthetic_motion import Motion
from vos_umec.data.synthetic_noise import Palette, power_law_noise
from vos_umec.data.synthetic_objects import Body, Part
from vos_umec.data.synthetic_paths import smooth_curve, walk
from vos_umec.data.synthetic_scene import Scene
from vos_umec.data.synthetic_shapes import canvas_grid
from vos_umec.data.synthetic_textures import texture
from vos_umec.errors import ConfigError

SIZE = (48, 80)


def disc(frames: int = 1, color: torch.Tensor | None = None, reach: float = 1.5) -> Body:
    """A disc of radius 1; its canvas is fine enough that the outline is exact to 0.001 units."""
    x, y = canvas_grid(192, reach)
    level = torch.from_numpy(1 - np.hypot(x, y)).float()
    rgb = torch.ones(3, 192, 192) if color is None else color
    return Body((Part(torch.cat([rgb, level[None]]), reach, (0.0, 0.0), np.zeros(frames)),), reach)


def scene(video: int, frames: int = 4) -> Scene:
    return Scene.sample([7, 1, video], SIZE, frames, (1, 3))


# --- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [(20.0, 16.0), (20.3, 15.8), (2.5, 30.5)])
def test_mask_of_a_disc_is_the_pixels_whose_centres_it_holds(centre: tuple[float, float]) -> None:
    _, ids = compose(torch.zeros(3, 32, 40), [Actor(disc(), Motion.still(1, centre, 9.0), label=5)], 0)
    for row in range(32):
        for column in range(40):
            distance = math.hypot(column + 0.5 - centre[0], row + 0.5 - centre[1])
            if abs(distance - 9.0) > 0.02:
                assert ids[row, column] == (5 if distance < 9.0 else 0), (row, column)


def test_edge_pixels_are_blended_by_the_share_of_their_area() -> None:
    picture, _ = compose(torch.zeros(3, 32, 40), [Actor(disc(), Motion.still(1, (20.3, 15.8), 9.0), 1)], 0)
    fine = (np.arange(40 * 16) + 0.5) / 16
    inside = np.hypot(fine[None] - 20.3, fine[: 32 * 16, None] - 15.8) < 9.0
    area = inside.reshape(32, 16, 40, 16).mean(axis=(1, 3))
    assert np.abs(picture[0].numpy() - area).max() < 0.12  # the outline is taken as straight and axis-parallel
    assert abs(picture[0].sum().item() - math.pi * 81) < 2.0


def test_mask_of_a_deformed_disc_follows_the_written_deformation() -> None:
    motion = Motion(
        centre=np.array([[0.0, 0.0], [21.0, 17.0]]),
        angle=np.array([0.0, 0.7]),
        scale=np.array([1.0, 8.0]),
        stretch=np.array([1.0, 1.2]),
        bend=np.array([0.0, 0.3]),
        ripple=np.array([[0.0, 0.0], [0.1, 0.15]]),
        phase=np.array([[0.0, 0.0], [0.4, -1.0]]),
        frequency=np.array([2.0, 3.0]),
    )
    _, ids = compose(torch.zeros(3, 36, 44), [Actor(disc(2), motion, label=1)], 1)
    count = 0
    for row in range(36):
        for column in range(44):
            u, v = column + 0.5 - 21.0, row + 0.5 - 17.0
            x = (math.cos(0.7) * u + math.sin(0.7) * v) / 8.0 / 1.2
            y = (math.cos(0.7) * v - math.sin(0.7) * u) / 8.0 * 1.2
            y += 0.1 * math.sin(2.0 * x + 0.4) + 0.3 * math.cos(1.2 * x)
            x += 0.15 * math.sin(3.0 * y - 1.0)
            level = 1 - math.hypot(x, y)
            if abs(level) > 0.01:
                assert ids[row, column] == (level > 0), (row, column)
                count += level > 0
    assert count > 150  # of about 201 pixels


@pytest.mark.parametrize("video", range(6))
def test_mask_names_whoever_painted_most_of_the_pixel(video: int) -> None:
    actors = [replace(actor, shadow=0.0) for actor in scene(video).actors]
    _, ids = compose(torch.zeros(3, *SIZE), actors, 3)
    unclear = torch.ones(SIZE, dtype=torch.bool)
    background = torch.ones(SIZE)
    for lit in actors:  # one picture for each actor: it is white, everything else black
        cast = []
        for actor in actors:
            parts = tuple(
                replace(p, canvas=torch.cat([torch.full_like(p.canvas[:3], float(actor is lit)), p.canvas[3:]]))
                for p in actor.body.parts
            )
            cast.append(replace(actor, body=replace(actor.body, parts=parts)))
        share = compose(torch.zeros(3, *SIZE), cast, 3)[0][0]
        background -= share
        assert (ids[share > 0.5001] == lit.label).all()
        unclear &= share <= 0.5001
    assert (ids[background > 0.5001] == 0).all()
    assert (unclear & (background <= 0.5001)).float().mean() < 0.02  # edges of three surfaces
    assert (ids > 0).any()


def test_an_occluder_in_front_is_background_in_the_mask() -> None:
    behind = Actor(disc(), Motion.still(1, (20.0, 16.0), 9.0), label=2)
    front = Actor(disc(), Motion.still(1, (20.0, 16.0), 4.0), label=0)
    _, ids = compose(torch.zeros(3, 32, 40), [behind, front], 0)
    assert ids[16, 20] == 0
    assert ids[16, 26] == 2
    _, ids = compose(torch.zeros(3, 32, 40), [front, behind], 0)
    assert ids[16, 20] == 2


# --- motion ------------------------------------------------------------------------------------------------


def test_texture_moves_with_its_object() -> None:
    color = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(0))
    body = disc(3, torch.nn.functional.avg_pool2d(color, 9, 1, 4))
    motion = Motion.still(3, (16.0, 20.0), 10.0)
    motion = replace(
        motion,
        centre=np.array([[16.0, 20.0], [23.0, 17.0], [16.0, 20.0]]),
        angle=np.array([0.0, 0.0, math.pi / 2]),
    )
    first, moved, turned = (compose(torch.zeros(3, 40, 40), [Actor(body, motion, 1)], t)[0] for t in range(3))
    torch.testing.assert_close(moved[:, 6:28, 12:34], first[:, 9:31, 5:27])
    around = first[:, 9:31, 5:27]
    torch.testing.assert_close(
        turned[:, 9:31, 5:27], torch.rot90(around, -1, (1, 2)), atol=2e-4, rtol=0
    )  # y points down: a positive angle turns clockwise


@given(st.integers(2, 6), st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_smooth_curve_meets_its_knots(n: int, between: int, seed: int) -> None:
    knots = np.random.default_rng(seed).normal(size=(n, 2))
    curve = smooth_curve(knots, (n - 1) * between + 1)
    np.testing.assert_allclose(curve[::between], knots, atol=1e-9)


def test_smooth_curve_keeps_its_velocity_at_knots() -> None:
    curve = smooth_curve(np.random.default_rng(0).normal(size=(5, 1)), 4001)[:, 0]
    velocity = np.diff(curve)
    assert np.abs(np.diff(velocity)).max() < 0.02 * np.abs(velocity).max()


@pytest.mark.parametrize("seed", range(5))
def test_walk_stays_about_the_frame(seed: int) -> None:
    path = walk(np.random.default_rng(seed), 200, np.array([50.0, 50.0]), (320, 192), (20, 60))
    assert ((path > -60) & (path < (380, 252))).all()
    assert np.ptp(path, axis=0).max() > 80


# --- textures ----------------------------------------------------------------------------------------------


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
    made = [texture(rng, (32, 40), Palette.sample(rng, np.log([0.4] * 3))) for _ in range(20)]
    for picture in made:
        assert picture.shape == (32, 40, 3)
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.std(axis=(0, 1)).max() > 0.01  # never a flat color
    means = np.stack([picture.mean(axis=(0, 1)) for picture in made])
    assert means.std(axis=0).min() > 0.04


# --- scenes ------------------------------------------------------------------------------------------------


def test_scenes_are_determined_by_their_seed() -> None:
    for (frame, ids), (again, ids_again) in zip(scene(3), scene(3), strict=True):
        np.testing.assert_array_equal(frame, again)
        np.testing.assert_array_equal(ids, ids_again)
    one, other = scene(3).draw(0)[0].astype(int), scene(4).draw(0)[0].astype(int)
    assert np.abs(one - other).mean() > 10


@pytest.mark.parametrize("video", range(12))
def test_every_object_shows_in_the_first_frame(video: int) -> None:
    made = scene(video, frames=2)
    labels = sorted({actor.label for actor in made.actors} - {0})
    assert labels == list(range(1, len(labels) + 1))
    ids = made.draw(0)[1]
    for label in labels:
        assert (ids == label).mean() >= 0.01
    assert set(np.unique(ids)) <= {0, *labels}


def test_scenes_are_hard_to_copy_and_have_distractors_and_occluders() -> None:
    overlaps, extras = [], 0
    for video in range(8):
        made = scene(video, frames=40)
        masks = np.stack([compose(torch.zeros(3, *SIZE), made.actors, t)[1].numpy() for t in range(0, 40, 6)])
        extras += any(actor.label == 0 for actor in made.actors)
        for label in np.unique(masks[0])[1:]:
            both, either = (masks == label) & (masks[:1] == label), (masks == label) | (masks[:1] == label)
            overlaps.append((both.sum(axis=(1, 2)) / either.sum(axis=(1, 2)))[1:].mean())
    assert 0.1 < np.mean(overlaps) < 0.5
    assert extras >= 3


def test_too_many_objects_end_in_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vos_umec.data.synthetic_scene.SMALLEST_SHARE", 0.9)
    monkeypatch.setattr("vos_umec.data.synthetic_scene._ATTEMPTS", 3)
    with pytest.raises(ConfigError, match="2 objects did not fit into a frame of 48 x 80 in 3 attempts"):
        Scene.sample([0], SIZE, 2, (2, 2))
