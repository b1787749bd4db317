"""`vos-umec segment` on a made clip of a moving square, and the mask that a user gives with it."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import vos_umec.cli.outputs
from vos_umec.cli.main import main
from vos_umec.errors import VideoReadError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.rle import decode_rle
from vos_umec.io.source import open_source
from vos_umec.io.video_writer import VideoWriter
from vos_umec.io.written import RECORD
from vos_umec.models.description import Description
from vos_umec.models.factory import build_network
from vos_umec.models.model_file import write_model


@pytest.fixture
def words(tmp_path) -> list[str]:
    """A `segment` that works, by the model of the package."""
    with VideoWriter(tmp_path / "clip.mp4", 24) as writer:
        for t in range(4):
            frame = np.zeros((32, 48, 3), np.uint8)
            frame[8:24, 4 * t : 4 * t + 16] = 255
            writer.write(frame)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, :16] = 1
    write_mask(tmp_path / "m.png", mask)
    return [
        "segment",
        str(tmp_path / "clip.mp4"),
        "--mask",
        str(tmp_path / "m.png"),
        "--out",
        str(tmp_path / "out"),
    ]


def test_a_mask_a_frame_and_an_overlay_of_the_frames_are_written(words, checkpoint, tmp_path):
    more = ["--checkpoint", str(checkpoint), "--frame", "1", "--crop-margin", "2", "--top-k", "5"]
    assert main([*words, *more]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RECORD, "masks", "overlay.mp4"]
    masks = {path.stem: read_mask(path) for path in sorted((tmp_path / "out/masks").iterdir())}
    assert list(masks) == ["00001", "00002", "00003"]
    assert all(mask.any() for mask in masks.values())
    shown = open_source(tmp_path / "out/overlay.mp4")
    assert (len(shown), shown.size) == (4, (32, 48))
    grey, colored = shown.read([0, 1]).astype(int)
    assert (grey.max(axis=2) - grey.min(axis=2)).max() < 40  # the frame itself, before there is a mask
    assert (colored.max(axis=2) - colored.min(axis=2))[masks["00001"] > 0].mean() > 60


def test_the_model_of_the_package_segments_where_no_checkpoint_is_named(words, tmp_path):
    assert main(words) == 0
    masks = [read_mask(path) for path in sorted((tmp_path / "out/masks").iterdir())]
    for t, mask in enumerate(masks):  # the square is where it moved to
        truth = np.zeros((32, 48), bool)
        truth[8:24, 4 * t : 4 * t + 16] = True
        assert ((mask == 1) & truth).sum() / ((mask == 1) | truth).sum() > 0.7


def test_what_cannot_be_used_is_named_in_one_line(words, tmp_path, capsys):
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    for more, told in (
        (["--checkpoint", str(tmp_path / "x.ckpt")], "x.ckpt"),
        (["--frame", "4"], "index 0 to 3"),
        (["--radius", "-1"], "radius"),
        (["--protocol", "best"], "best"),
    ):
        assert main([*words, *more]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    (tmp_path / "out").mkdir()
    (tmp_path / "out/masks").write_text("in the way")
    assert main(words) == 1
    assert str(tmp_path / "out/masks") in capsys.readouterr().err.splitlines()[-1]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["masks"]  # no half a video


FAST = ["--rounds", "0", "--short-side", "32"]


def masks_of(folder):
    return {path.stem: path.read_bytes() for path in sorted((folder / "masks").glob("*.png"))}


def prompt(t, i=1):
    """The mask of the square in frame t."""
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, int(4 * t) : int(4 * t) + 16] = i
    return mask


def test_what_was_understood_is_told_before_the_work(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(VideoSegmenter, "step", lambda *a, **k: pytest.fail("has begun"))
    (tmp_path / "m.png").rename(tmp_path / "00002_mask.png")
    words[3] = str(tmp_path / "00002_mask.png")
    with pytest.raises(pytest.fail.Exception):
        main([*words, *FAST])
    line = capsys.readouterr().out.splitlines()[0]
    assert line == "00002_mask.png: frame 00002 (index 2): object 1 256 pixels; unknown: none"


def test_nothing_of_the_users_is_replaced_and_own_files_are(words, tmp_path, capsys):
    assert main([*words, *FAST]) == 0
    out, first = tmp_path / "out", masks_of(tmp_path / "out")
    write_mask(out / "masks/00002.png", prompt(2))  # corrected in its place
    corrected = masks_of(out)["00002"]
    assert main([*words, *FAST]) == 1
    assert "masks/00002.png" in (error := capsys.readouterr().err.splitlines()[-1])
    assert "--overwrite" in error
    assert masks_of(out) == first | {"00002": corrected}
    words[3] = str(out / "masks/00002.png")  # and given: frame 3 is made anew, the others stay as they are
    (out / "masks/00001.png").write_bytes(b"not touched")
    assert main([*words, *FAST]) == 0
    after = masks_of(out)
    assert (after["00001"], after["00002"], after["00000"]) == (b"not touched", corrected, first["00000"])
    words[3] = str(tmp_path / "m.png")
    assert main([*words, *FAST, "--overwrite"]) == 0
    assert masks_of(out) == first


def test_a_video_or_a_given_mask_in_the_way_is_not_replaced(words, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "overlay.mp4").write_bytes(b"mine")
    assert main([*words, *FAST]) == 1
    assert "overlay.mp4" in capsys.readouterr().err
    (out / "overlay.mp4").unlink()
    write_mask(out / "masks/00003.png", prompt(0))
    given = (out / "masks/00003.png").read_bytes()
    words[3] = f"0={out / 'masks/00003.png'}"  # frame 0 has the mask; it lies where that of frame 3 would
    assert main([*words, *FAST, "--overwrite"]) == 0
    assert (out / "masks/00003.png").read_bytes() == given
    assert sorted(masks_of(out)) == ["00000", "00001", "00002", "00003"]


def test_what_is_segmented_is_not_replaced_even_with_overwrite(words, tmp_path, capsys):
    clip = tmp_path / "x/overlay.mp4"
    clip.parent.mkdir()
    (tmp_path / "clip.mp4").rename(clip)
    frames = tmp_path / "y/masks"
    frames.mkdir(parents=True)
    for t, frame in enumerate(open_source(clip).read(range(4))):
        Image.fromarray(frame).save(frames / f"{t}.png")
    for video, out in ((clip, "x"), (frames, "y")):
        before = {path: path.read_bytes() for path in (tmp_path / out).rglob("*.*")}
        assert main(["segment", str(video), *words[2:4], "--out", str(tmp_path / out), "--overwrite"]) == 1
        assert "is what you gave, and would be replaced" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in (tmp_path / out).rglob("*.*")} == before


def test_lack_of_memory_and_a_file_in_place_of_the_folder_are_told_in_one_line(words, tmp_path, capsys):
    assert main([*words, "--references", "1000000000000"]) == 1
    assert "not enough memory" in capsys.readouterr().err.splitlines()[-1]
    assert main([*words[:-1], words[3]]) == 1
    assert f"{words[3]} is a file; name a folder" in capsys.readouterr().err.splitlines()[-1]


def test_backward_gives_the_frames_before_and_a_movie_of_all(words, tmp_path):
    write_mask(tmp_path / "00002.png", prompt(2))
    words[3] = str(tmp_path / "00002.png")
    assert main([*words, *FAST, "--backward"]) == 0
    for t in range(4):
        found, truth = read_mask(tmp_path / f"out/masks/0000{t}.png") == 1, prompt(t) == 1
        assert (found & truth).sum() / (found | truth).sum() > 0.7, t
    movie = open_source(tmp_path / "out/overlay.mp4")
    assert len(movie) == 4
    first = movie.read([0])[0].astype(int)
    assert (first.max(axis=2) - first.min(axis=2))[8:24, :16].mean() > 60


def test_soft_masks_and_run_lengths_on_request(words, tmp_path):
    assert main([*words, *FAST, "--soft", "--rle"]) == 0
    coco = json.loads((tmp_path / "out/masks.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"0000{t}.png" for t in range(4)]
    for entry in coco["annotations"]:
        mask = read_mask(tmp_path / f"out/masks/0000{entry['image_id']}.png") == entry["category_id"]
        np.testing.assert_array_equal(decode_rle(entry["segmentation"]), mask)
        left, top, width, height = entry["bbox"]
        assert mask[top : top + height, left : left + width].sum() == mask.sum() == entry["area"]
        soft = np.asarray(Image.open(tmp_path / f"out/soft/1/0000{entry['image_id']}.png"))
        assert soft[mask].min() >= 127
        assert soft[~mask].max() <= 128


class KilledError(Exception):
    """Stands for a process that is killed."""


def long_clip(tmp_path):
    """Ten frames, and a corrected mask in frame 6."""
    random = np.random.default_rng(0)
    with VideoWriter(tmp_path / "long.mp4", 24) as writer:
        for t in range(10):
            frame = random.integers(0, 60, (32, 48, 3), dtype=np.uint8)
            frame[8:24, 3 * t : 3 * t + 16] += np.uint8(150)
            writer.write(frame)
    write_mask(tmp_path / "00002.png", prompt(1.5))
    write_mask(tmp_path / "00006.png", prompt(4.5, 2))


def prompt_words(tmp_path, out):
    given = [word for i in (2, 6) for word in ("--mask", str(tmp_path / f"0000{i}.png"))]
    more = ["--rounds", "1", "--short-side", "32", "--references", "3", "--backward"]
    return ["segment", str(tmp_path / "long.mp4"), *given, "--out", str(tmp_path / out), *more]


@pytest.mark.parametrize("stops_after", [1, 2, 5, 9])
def test_a_run_that_is_killed_goes_on_and_ends_as_one_that_was_not(stops_after, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vos_umec.cli.outputs, "SAVE_SECONDS", 0)
    long_clip(tmp_path)
    drawn, add = [], VideoWriter.write
    monkeypatch.setattr(VideoWriter, "write", lambda self, frame: (drawn.append(frame.copy()), add(self, frame)))
    assert main(prompt_words(tmp_path, "whole")) == 0
    assert len(drawn) == 10
    write, done = vos_umec.cli.outputs.Outputs.write, []

    def dying(self, *arguments):
        if len(done) == stops_after:
            raise KilledError
        done.append(write(self, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(vos_umec.cli.outputs.Outputs, "write", dying)
        with pytest.raises(KilledError):
            main(prompt_words(tmp_path, "cut"))
    left = masks_of(tmp_path / "cut")
    for unfinished in ("..overlay.partial.mp4.1.a.tmp", "masks/.00001.png.1.a.tmp"):  # as SIGKILL leaves them
        (tmp_path / "cut" / unfinished).write_bytes(b"x")
    assert len(left) == stops_after
    assert not (tmp_path / "cut/overlay.mp4").exists()
    assert main([*prompt_words(tmp_path, "cut"), "--rounds=0", "--resume"]) == 1  # given twice
    other = [word if word != "1" else "0" for word in prompt_words(tmp_path, "cut")]
    assert main([*other, "--resume"]) == 1
    assert "had another settings" in capsys.readouterr().err
    assert main([*prompt_words(tmp_path, "cut"), "--resume"]) == 0
    assert "goes on after" in capsys.readouterr().out
    assert masks_of(tmp_path / "cut") == masks_of(tmp_path / "whole")
    # What is given to x264: small frames it codes not bit for bit the same twice, by its code for AVX-512.
    np.testing.assert_array_equal(drawn[-10:], drawn[:10])
    assert len(open_source(tmp_path / "cut/overlay.mp4")) == 10
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == [RECORD, "masks", "overlay.mp4"]
    assert len(list((tmp_path / "cut/masks").iterdir())) == 10


def test_where_there_is_nothing_to_resume_the_run_begins_at_its_start(words, tmp_path, capsys):
    assert main([*words, *FAST, "--resume"]) == 0
    assert "no interrupted run" in capsys.readouterr().out
    assert len(masks_of(tmp_path / "out")) == 4


def test_what_a_source_gave_before_it_broke_is_valid_and_is_gone_on_from(words, tmp_path, monkeypatch, capsys):
    assert main([*words, *FAST, "--out", str(tmp_path / "x")]) == 1  # given twice
    capsys.readouterr()
    source = type(open_source(tmp_path / "clip.mp4"))
    read = source.read

    def broken(self, indices, size=None):
        if 2 in indices:
            raise VideoReadError(self.path, "frame 2 cannot be decoded")
        return read(self, indices, size)

    with monkeypatch.context() as patch:
        patch.setattr(source, "read", broken)
        assert main([*words, *FAST]) == 1
    told = capsys.readouterr()
    assert "2 of 4 masks" in told.out
    assert "frame 2 cannot be decoded" in told.err
    assert sorted(masks_of(tmp_path / "out")) == ["00000", "00001"]
    assert len(open_source(tmp_path / "out/overlay.mp4")) == 2
    assert main([*words, *FAST, "--resume"]) == 0
    assert "goes on after 2 of 4" in capsys.readouterr().out
    assert len(open_source(tmp_path / "out/overlay.mp4")) == 4


def test_a_movie_that_cannot_be_made_does_not_stop_the_masks(words, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(VideoWriter, "write", lambda *a: (_ for _ in ()).throw(OSError("no codec")))
    assert main([*words, *FAST]) == 0
    assert len(masks_of(tmp_path / "out")) == 4
    assert "overlay video is left out" in caplog.text
    assert not (tmp_path / "out/overlay.mp4").exists()


def test_a_model_that_gives_no_numbers_is_told_in_one_line(words, tmp_path, capsys):
    network = build_network("tiny")
    torch.nn.init.constant_(network.decoder.out.bias, torch.nan)
    write_model(network, tmp_path / "broken.safetensors", Description("tiny", {"rounds": 1, "short_side": 32}))
    assert main([*words, "--checkpoint", str(tmp_path / "broken.safetensors")]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "Warning" in line or "error" in line]
    assert len(told) == 1
    assert "weights that are no numbers (NaN or infinity, such as in decoder.out.bias)" in told[0]


def test_results_that_are_no_numbers_are_told_in_one_line(words, monkeypatch, capsys):
    def broken(self, frame, mask=None, ids=None, return_probabilities=False):
        return step(self, frame, mask)[0], np.full((2, *frame.shape[:2]), np.nan, np.float32)

    step = partial(VideoSegmenter.step, return_probabilities=True)
    monkeypatch.setattr(VideoSegmenter, "step", broken)
    assert main([*words, "--soft", "--rounds", "0"]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no numbers (NaN) in frame 00000: its weights are broken" in told


def test_an_object_too_small_to_be_followed_is_told(words, tmp_path, caplog):
    mask = prompt(0)
    mask[28:30, 40:42] = 2
    write_mask(tmp_path / "m.png", mask)
    assert main([*words, "--rounds", "0", "--short-side", "16"]) == 0
    assert "object 2 in frame 00000 fills no cell" in caplog.text
    assert "object 1 in" not in caplog.text
