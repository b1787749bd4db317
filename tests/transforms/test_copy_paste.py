from dataclasses import replace

import pytest
import torch

from vos_umec.errors import ConfigError
from vos_umec.transforms import copy_paste
from vos_umec.transforms.copy_paste import CopyPaste, _part
from vos_umec.transforms.pieces import BOX, draw_camera, draw_pieces

B, T, S = 6, 4, 48


def batch_of_noise(known: bool = True) -> dict[str, torch.Tensor]:
    segments = torch.randint(0, 3, (B, T, S, S), dtype=torch.uint8) if known else torch.full((B, T, S, S), 255)
    return {"frames": torch.randn(B, T, 3, S, S), "segments": segments.to(torch.uint8)}


def colored_batch() -> dict[str, torch.Tensor]:
    """Three clips, red, green and blue: a pixel shows how much of each clip is in it."""
    frames = torch.eye(3)[:, None, :, None, None].expand(3, T, 3, S, S)
    return {"frames": frames.clone(), "segments": torch.zeros(3, T, S, S, dtype=torch.uint8)}


@pytest.fixture
def plain(monkeypatch):
    """Pieces keep their colors, and all are pasted, even on the same color."""

    def draw(*args):
        pieces = draw_pieces(*args)
        ones, zeros = torch.ones_like(pieces.contrast), torch.zeros_like(pieces.brightness)
        return replace(pieces, contrast=ones, brightness=zeros)

    monkeypatch.setattr(copy_paste, "draw_pieces", draw)
    monkeypatch.setattr(copy_paste, "_VISIBLE", -1.0)


def composites(seed: int, batch: dict[str, torch.Tensor], **settings: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return CopyPaste(**{"p": 1.0, "distractors": 0.0, "occluders": 0.0, **settings})(batch)


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_is_where_most_of_a_pixel_is_the_piece(plain, seed):
    batch = colored_batch()
    made = composites(seed, batch, pieces=1)
    own = torch.eye(3)[:, None, :, None, None]
    foreign = (made["frames"] * (1 - own)).sum(dim=2)  # (3, T, S, S), part that is of another clip
    of_itself = (
        foreign.flatten(1).amax(dim=1) == 0
    )  # the piece is cut from the clip itself: the color tells nothing
    clear = (foreign - 0.5).abs() > 1e-3
    pasted = made["segments"] == 1
    assert torch.equal(
        pasted[clear & ~of_itself[:, None, None, None]], (foreign > 0.5)[clear & ~of_itself[:, None, None, None]]
    )
    assert made["segments"].max() <= 1


def test_an_id_is_the_same_piece_in_all_frames(plain):
    seen = 0
    for seed in range(8):
        made = composites(seed, colored_batch(), distractors=1.0, occluders=1.0)
        for frames, ids in zip(made["frames"], made["segments"], strict=True):
            for i in range(1, 5):
                pixels = frames.movedim(1, -1)[ids == i]  # (pixels of all frames, 3)
                inside = pixels[pixels.amax(dim=1) > 0.99]
                assert inside.argmax(dim=1).unique().numel() <= 1
                seen += len(inside) > 0
    assert seen > 20


def test_an_occluder_takes_pixels_from_the_other_ids(plain):
    taken = 0
    for seed in range(6):
        free, made = (composites(seed, colored_batch(), occluders=p)["segments"] for p in (0.0, 1.0))
        changed = free != made
        assert (made[changed] == 0).all()
        taken += int(changed.sum())
    assert taken > 0


def test_a_distractor_is_background_or_an_object_of_its_own(plain):
    found = set()
    for seed in range(12):
        free, made = (composites(seed, colored_batch(), distractors=p) for p in (0.0, 1.0))
        changed = free["segments"] != made["segments"]
        found |= set(made["segments"][changed].tolist())
        for frames, ids in zip(made["frames"], made["segments"], strict=True):
            pixels = [frames.movedim(1, -1)[ids == i] for i in (1, 4)]
            colors = [p[p.amax(dim=1) > 0.99].argmax(dim=1).unique().tolist() for p in pixels]
            assert not all(colors) or colors[0] == colors[1]  # a copy of the first piece
    assert found == {0, 4}


def test_pieces_part_from_the_background():
    """The camera moves and pieces do so on their own: a piece hardly ever stays where it was."""
    torch.manual_seed(0)
    ids = CopyPaste(p=1.0, pieces=1, distractors=0.0)(batch_of_noise())["segments"]
    moved = [bool((clip[0] != clip[-1]).any()) for clip in ids if (clip[0] == 1).any()]
    assert moved
    assert all(moved)


@pytest.mark.parametrize("frames", [1, 2, 16])
def test_the_camera_shows_pixels_of_the_clip_only(monkeypatch, frames):
    monkeypatch.setattr(copy_paste, "_VISIBLE", float("inf"))  # no pieces
    line = torch.linspace(1 / S - 1, 1 - 1 / S, S)
    x, y = line.expand(S, S), line[:, None].expand(S, S)
    clip = torch.stack([x, y, x]).expand(B, frames, 3, S, S)
    batch = {"frames": clip, "segments": torch.zeros(B, frames, S, S, dtype=torch.uint8)}
    still = composites(0, batch, camera=0.0)["frames"]
    torch.testing.assert_close(still, clip, atol=1e-4, rtol=0)
    moved = composites(0, batch, camera=1.0)["frames"]
    assert moved.abs().amax() <= 1 - 1 / S + 1e-5
    step = moved[..., 4:-4].diff(dim=-1)[:, :, 0]  # (B, frames, S, S-9), how far in the clip a step to the right is
    zoom = (2 / S) / step
    torch.testing.assert_close(zoom, zoom[..., :1, :1].expand_as(zoom), atol=1e-2, rtol=0)
    assert zoom.amin() > 1.15
    assert zoom.amax() < 2


def test_a_view_and_a_box_lie_within_the_clip():
    torch.manual_seed(0)
    camera = draw_camera(200, 7, moves=0.8)
    assert (camera.view.abs() + 1 / camera.zoom[..., None] <= 1 + 1e-6).all()
    pieces = draw_pieces(torch.arange(200), 200, camera, 3, 0.5, 0.5, 0.5)
    assert (pieces.centre.abs() + pieces.radius[..., None] <= 1 + 1e-6).all()
    rim = torch.ones(BOX, BOX, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    blobs = pieces.outline[:, :3].flatten(0, 1)
    assert (blobs[:, rim] > 0).float().mean() < 0.01  # no straight cuts
    share = (pieces.outline > 0).float().mean(dim=(-2, -1))
    assert share.amin() > 0.05
    assert share.amax() < 0.61


def test_background_comes_into_view_and_pieces_grow_fast():
    """In 16 frames some clips come to show half of what they did not; some pieces grow 2 times, none 2.6."""
    torch.manual_seed(0)
    camera = draw_camera(200, 16, moves=1.0)
    left = camera.view - 1 / camera.zoom[..., None]  # (200, 16, 2)
    side = 2 / camera.zoom
    common = (side[:, [0, -1]].amin(dim=1, keepdim=True) - (left[:, 0] - left[:, -1]).abs()).clamp(min=0)
    new = 1 - common.prod(dim=-1) / side[:, -1] ** 2
    assert (new > 0.5).float().mean() > 0.2
    still = replace(camera, zoom=torch.ones(200, 16), view=torch.zeros(200, 16, 2))
    pieces = draw_pieces(torch.arange(200), 200, still, 3, 0.5, 0.5, 0.5)
    size = pieces.linear[:, :3].det().abs() ** -0.5  # (200, 3, T)
    growth = size.amax(dim=-1) / size.amin(dim=-1)
    assert growth.amax() < 2.6
    assert (growth > 2).float().mean() > 0.05


def test_things_move_as_far_from_frame_to_frame_in_short_clips_as_in_long_ones():
    torch.manual_seed(0)
    still = draw_camera(400, 1, moves=0.0)
    steps = {}
    for frames in (4, 8, 16):
        camera = replace(still, zoom=torch.ones(400, frames), view=torch.zeros(400, frames, 2))
        place = draw_pieces(torch.arange(400), 400, camera, 3, 0.5, 0.5, 0.5).place[:, :3]  # (400, 3, T, 2)
        steps[frames] = float(place.diff(dim=2).norm(dim=-1).mean())
    assert 0.7 < steps[8] / steps[16] < 1.5
    assert 0.7 < steps[4] / steps[8] < 1.5


def test_the_same_seed_makes_the_same_composites():
    torch.manual_seed(1)
    batch = batch_of_noise()
    first, again, other = (composites(seed, batch, p=0.7) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in batch)
    assert not torch.equal(first["frames"], other["frames"])


def test_a_piece_that_looks_like_what_it_covers_is_left_out():
    torch.manual_seed(0)
    batch = {"frames": torch.zeros(B, T, 3, S, S), "segments": torch.zeros(B, T, S, S, dtype=torch.uint8)}
    made = composites(0, batch, distractors=1.0, occluders=1.0)  # light adds about 0.2
    assert torch.equal(made["frames"], batch["frames"])
    assert not made["segments"].any()


def test_p_is_the_probability_that_a_clip_is_changed():
    torch.manual_seed(0)
    batch = batch_of_noise()
    assert CopyPaste(p=0.0)(batch) is batch
    changed = [(CopyPaste(p=0.5)(batch)["frames"] != batch["frames"]).flatten(1).any(1) for _ in range(40)]
    assert 0.4 < torch.stack(changed).float().mean() < 0.6


def test_clips_that_are_not_chosen_keep_their_segments():
    torch.manual_seed(0)
    batch = batch_of_noise()
    made = CopyPaste(p=0.5)(batch)
    same = (made["frames"] == batch["frames"]).flatten(1).all(dim=1)
    assert 0 < same.sum() < B
    assert torch.equal(made["segments"][same], batch["segments"][same])


def test_clips_without_pseudo_masks_pass_through():
    batch = {"frames": torch.rand(2, 3, 3, 8, 8)}
    assert CopyPaste(p=1.0)(batch) is batch


def test_clips_without_known_segments_get_pieces_but_no_masks():
    """Before the first clustering E learns on them, and L_seg must not start on blobs alone."""
    torch.manual_seed(0)
    batch = batch_of_noise()
    batch["segments"][:3] = 255
    made = CopyPaste(p=1.0)(batch)
    assert torch.equal(made["segments"][:3], batch["segments"][:3])
    assert (made["frames"] != batch["frames"]).flatten(1).any(1).all()
    assert (made["segments"][3:] <= 4).all()


def test_a_piece_follows_a_segment_that_fills_enough_of_it():
    """Every frame's left half is one segment; the box lies across its border, or hardly reaches it."""
    torch.manual_seed(0)
    segments = torch.zeros(2, T, S, S, dtype=torch.uint8)
    segments[..., : S // 2] = 1
    camera = draw_camera(2, T, moves=0.0)
    pieces = draw_pieces(torch.arange(2), 2, camera, 1, 1.0, 0.0, 0.0).take(torch.arange(2), torch.zeros(2).long())
    across = replace(pieces, centre=torch.tensor([[-0.1, 0.0]] * 2), radius=torch.full((2,), 0.5))
    follow = torch.tensor([True, False])
    part = _part(segments, replace(across, follow=follow, outline=torch.ones(2, BOX, BOX)))
    assert torch.equal(part[0], segments[0] == 1)
    assert part[1].all()
    segments[:, 1, :, : S // 2] = 0  # the segment is absent from the second frame
    assert _part(segments, replace(across, follow=follow)).all()
    unknown = torch.full_like(segments, 255)
    assert _part(unknown, replace(across, follow=follow)).all()


def test_one_clip_alone_is_cut_from_itself():
    torch.manual_seed(0)
    batch = {name: x[:1] for name, x in batch_of_noise().items()}
    made = CopyPaste(p=1.0)(batch)
    assert made["frames"].isfinite().all()
    assert (made["segments"] > 0).any()


@pytest.mark.parametrize(
    "wrong",
    [{"p": 1.5}, {"pieces": 0}, {"segments": -0.1}, {"distractors": 2.0}, {"occluders": 2.0}, {"camera": -1}],
)
def test_wrong_settings_are_errors(wrong):
    with pytest.raises(ConfigError, match="CopyPaste has"):
        CopyPaste(**wrong)


@pytest.mark.parametrize("frames", [1, 2, 4, 16])
def test_a_piece_shows_a_few_steps_of_its_clip(frames):
    torch.manual_seed(0)
    pieces = draw_pieces(torch.arange(50), 50, draw_camera(50, frames, 1.0), 3, 0.5, 0.5, 0.5)
    assert pieces.time.amin() >= 0
    assert pieces.time.amax() < frames
    span = (pieces.time[..., -1] - pieces.time[..., 0]).abs()
    assert set(span.unique().tolist()) == set(range(min(frames, 4)))
    assert pieces.time.diff(dim=-1).abs().sum(dim=-1).equal(span)  # forwards or backwards
