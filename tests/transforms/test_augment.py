import pytest
import torch
from torch import Tensor

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD
from vos_umec.errors import ConfigError
from vos_umec.transforms.augment import ClipAugment, normalize


def pixels(frames: Tensor) -> Tensor:
    """The inverse of `normalize`, in units of a byte."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (frames * std + mean) * 255


@pytest.fixture
def batch() -> dict[str, object]:
    """Red is ten times the frame, green twice the row, blue twice the column; a segment is 8 x 8 pixels."""
    rows, columns = torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij")
    frames = torch.stack([torch.stack([torch.full_like(rows, 10 * t), 2 * rows, 2 * columns]) for t in range(3)])
    segments = (rows // 8 + 16 * (columns // 8)).expand(4, 3, 100, 100)
    return {
        "frames": frames.expand(4, 3, 3, 100, 100).to(torch.uint8),
        "segments": segments.to(torch.uint8),
        "frame_indices": torch.arange(3).expand(4, 3),
        "video": ["a", "b", "c", "d"],
    }


def test_normalize_matches_the_definition() -> None:
    frames = torch.randint(0, 256, (2, 3, 3, 4, 5), dtype=torch.uint8)
    result = normalize(frames)
    assert result.dtype == torch.float32
    for channel in range(3):
        expected = (frames[:, :, channel].double() / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        torch.testing.assert_close(result[:, :, channel].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3, dtype=torch.uint8), torch.zeros(3)])
def test_normalize_refuses_what_is_not_bytes_of_rgb(frames: Tensor) -> None:
    with pytest.raises(ConfigError, match="uint8 RGB"):
        normalize(frames)


def test_one_crop_for_all_frames_and_segments_of_a_clip(batch: dict[str, object]) -> None:
    augmented = ClipAugment(crop=64, scale=(0.7, 0.9))(batch)
    frames, segments = pixels(augmented["frames"]), augmented["segments"]
    assert frames.shape == (4, 3, 3, 64, 64)
    assert segments.shape == (4, 3, 64, 64)
    assert segments.dtype == torch.uint8
    for t in range(3):
        torch.testing.assert_close(frames[:, t, 0], torch.full((4, 64, 64), 10.0 * t), rtol=0, atol=1e-2)
        torch.testing.assert_close(frames[:, t, 1:], frames[:, 0, 1:])
        assert torch.equal(segments[:, t], segments[:, 0])
    row, column = frames[:, 0, 1] / 2, frames[:, 0, 2] / 2  # where each pixel comes from
    nearest = (row.round() // 8 + 16 * (column.round() // 8)).to(torch.uint8)
    assert (segments[:, 0] == nearest).float().mean() > 0.98  # rounding apart, the same pixels
    assert set(segments.unique().tolist()) <= set(batch["segments"].unique().tolist())
    side = (column[:, 0, -1] - column[:, 0, 0]).abs() + 0.8
    assert ((side > 69) & (side < 91)).all()
    assert len(side.round(decimals=2).unique()) > 1, "another crop for each clip"


def test_each_frame_is_cropped_anew_with_its_segments_and_flipped_as_its_clip(batch: dict[str, object]) -> None:
    augmented = ClipAugment(crop=64, scale=(0.5, 0.8), each_frame=True)(batch)
    frames, segments = pixels(augmented["frames"]), augmented["segments"]
    assert frames.shape == (4, 3, 3, 64, 64)
    for t in range(3):
        torch.testing.assert_close(frames[:, t, 0], torch.full((4, 64, 64), 10.0 * t), rtol=0, atol=1e-2)
    row, column = frames[:, :, 1] / 2, frames[:, :, 2] / 2  # where each pixel comes from
    nearest = (row.round() // 8 + 16 * (column.round() // 8)).to(torch.uint8)
    assert (segments == nearest).float().mean() > 0.97  # rounding apart, the same pixels
    across = column[..., 0, -1] - column[..., 0, 0]  # (4, 3), negative where flipped
    assert (across.sign() == across[:, :1].sign()).all()
    assert len(across.abs().round(decimals=2).unique()) == 12, "another crop for each frame"


def test_flips_about_half_of_the_clips() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(200, 1, 3, 32, 32)
    augmented = ClipAugment(crop=32, scale=(1.0, 1.0))({"frames": ramp})
    flipped = augmented["frames"][:, 0, 0, 0, 0] > augmented["frames"][:, 0, 0, 0, -1]
    assert 70 < int(flipped.sum()) < 130
    assert set(augmented) == {"frames"}


def test_the_rest_passes_and_the_batch_stays(batch: dict[str, object]) -> None:
    before = batch["frames"].clone()
    augmented = ClipAugment(crop=64)(batch)
    assert augmented["video"] is batch["video"]
    assert augmented["frame_indices"] is batch["frame_indices"]
    assert torch.equal(batch["frames"], before)
