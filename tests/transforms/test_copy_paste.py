import pytest
import torch

from vos_umec.errors import ConfigError
from vos_umec.transforms.copy_paste import CopyPaste

B, T, S = 6, 3, 48


def colored_batch() -> dict[str, torch.Tensor]:
    """Every clip of one color of its own, so that a pixel shows its clip."""
    frames = torch.arange(B).view(B, 1, 1, 1, 1).expand(B, T, 3, S, S).float() * 10
    return {"frames": frames.clone(), "segments": torch.randint(0, 3, (B, T, S, S), dtype=torch.uint8)}


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_exact_where_a_pixel_is_of_one_clip(seed):
    torch.manual_seed(seed)
    batch = colored_batch()
    made = CopyPaste(p=1.0)(batch)
    # Lights change a piece by 20 % and 0.2; what lies off its clip's color is pasted or half so.
    off = (made["frames"] - batch["frames"]).abs().amax(dim=2)  # (B, T, S, S)
    pasted = made["segments"] > 0
    assert (off[~pasted] < 0.51 * (10 * B * 1.2 + 0.2)).all()
    unchanged = off == 0
    assert not (unchanged & pasted)[1:].any()  # clip 0 is black, and so may be pieces of a piece's copy
    assert pasted.any()
    assert made["segments"].max() <= 3


def test_pieces_move_and_differ_from_clip_to_clip():
    torch.manual_seed(0)
    masks = CopyPaste(p=1.0, pieces=1)(colored_batch())["segments"] > 0
    moved = [bool((masks[b, 0] != masks[b, -1]).any()) for b in range(B) if masks[b].any()]
    assert all(moved)
    assert len({mask.sum().item() for mask in masks[:, 0]}) > 1


@pytest.mark.parametrize("distractors", [0.0, 1.0])
def test_distractors_are_cut_from_the_clip_itself(distractors):
    torch.manual_seed(0)
    batch = colored_batch()
    made = CopyPaste(p=1.0, pieces=1, distractors=distractors)(batch)
    color = made["frames"][2:, :, 0][made["segments"][2:] > 0]  # of clips 2 to 5, whose lights do not mix them up
    own = batch["frames"][2:, :, 0][made["segments"][2:] > 0]
    of_itself = (color / own - 1).abs() < 0.21
    assert bool(of_itself.float().mean() > 0.9) == bool(distractors)


def test_a_piece_that_looks_like_what_it_covers_is_left_out():
    torch.manual_seed(0)
    batch = colored_batch()
    batch["frames"] /= 1000  # lights change a piece by 0.2 at the most
    made = CopyPaste(p=1.0, distractors=1.0)(batch)
    assert torch.equal(made["frames"], batch["frames"])
    assert not made["segments"].any()


def test_p_is_the_probability_that_a_clip_is_changed():
    torch.manual_seed(0)
    batch = colored_batch()
    assert CopyPaste(p=0.0)(batch) is batch
    changed = [(CopyPaste(p=0.5)(batch)["segments"] != batch["segments"]).flatten(1).any(1) for _ in range(60)]
    assert 0.4 < torch.stack(changed).float().mean() < 0.6


def test_clips_without_pseudo_masks_pass_through():
    batch = {"frames": torch.rand(2, 3, 3, 8, 8)}
    assert CopyPaste(p=1.0)(batch) is batch


def test_clips_without_known_segments_get_pieces_but_no_masks():
    """Before the first clustering E learns on them, and L_seg must not start on blobs alone."""
    torch.manual_seed(0)
    batch = colored_batch()
    batch["segments"][:3] = 255
    made = CopyPaste(p=1.0, distractors=0)(batch)  # one of clip 0, which is black, would not be seen on it
    assert torch.equal(made["segments"][:3], batch["segments"][:3])
    assert (made["frames"] != batch["frames"]).flatten(1).any(1).all()
    assert (made["segments"][3:] <= 3).all()


def test_a_piece_follows_a_segment():
    """Where every frame's left half is one segment, some pieces end at a straight line that blobs have not."""
    torch.manual_seed(0)
    batch = colored_batch()
    batch["segments"] = torch.zeros_like(batch["segments"])
    batch["segments"][..., : S // 2] = 1
    composites = CopyPaste(p=1.0, segments=1.0)
    blob, centre = torch.ones(B, S, S, dtype=torch.bool), torch.tensor([[-0.5, 0.0]]).expand(B, 2)
    assert torch.equal(composites._cut_out(blob, centre, batch["segments"]), (batch["segments"] == 1).float())


@pytest.mark.parametrize("wrong", [{"p": 1.5}, {"pieces": 0}, {"segments": -0.1}, {"distractors": 2.0}])
def test_wrong_settings_are_errors(wrong):
    with pytest.raises(ConfigError, match="CopyPaste has"):
        CopyPaste(**wrong)
