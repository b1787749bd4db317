"""The set of made videos: what is written, and that it is written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.data.synthetic.scene import Scene
from vos_umec.errors import ConfigError, DataError

SIZE = (48, 80)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticVOS:
    data = SyntheticVOS(
        tmp_path_factory.mktemp("data"), train_videos=2, val_videos=2, frames=6, size=SIZE, seed=3, objects=(1, 2)
    )
    data.prepare()
    return data


def test_training_folder_holds_nothing_but_h264_videos(made: SyntheticVOS) -> None:
    import av

    paths = sorted(made.train_root.iterdir())
    assert [path.name for path in paths] == ["train_000.mp4", "train_001.mp4"]
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert sum(1 for _ in container.decode(stream)) == 6


@pytest.mark.parametrize(("split", "index"), [("train", 1), ("val", 0)])
def test_videos_read_back_as_they_were_drawn(made: SyntheticVOS, split: str, index: int) -> None:
    import decord

    drawn = np.stack(
        [frame for frame, _ in Scene.sample([3, ("train", "val").index(split), index], SIZE, 6, (1, 2))]
    )
    reader = decord.VideoReader(str(made.folder / split / f"{split}_{index:03d}.mp4"), num_threads=1)
    assert len(reader) == 6
    read = reader.get_batch([5, 0, 1, 2, 3, 4]).asnumpy()[[1, 2, 3, 4, 5, 0]]
    error = ((read.astype(float) - drawn) ** 2).mean(axis=(1, 2, 3))
    assert (10 * np.log10(255**2 / error)).min() > 24
    shuffled = ((read.astype(float) - drawn[::-1]) ** 2).mean()
    assert shuffled > 2 * error.mean()  # and in the right order


def test_validation_masks_are_indexed_and_exact(made: SyntheticVOS) -> None:
    sequences = made.val_sequences()
    assert [sequence.name for sequence in sequences] == ["val_000", "val_001"]
    for index, sequence in enumerate(sequences):
        assert sequence.path.is_file()
        assert sorted(sequence.annotations) == list(range(6))
        assert dict(sequence.prompts) == {0: sequence.annotations[0]}
        for t, (_, ids) in enumerate(Scene.sample([3, 1, index], SIZE, 6, (1, 2))):
            with Image.open(sequence.annotations[t]) as picture:
                assert picture.mode == "P"
                np.testing.assert_array_equal(np.asarray(picture), ids)
        assert len(sequence.source()) == 6


def test_prepare_does_its_work_once(made: SyntheticVOS) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in made.folder.rglob("*") if path.is_file()}

    before = state()
    made.prepare()
    assert state() == before
    assert not [path for path in before if path.suffix not in {".mp4", ".png", ".json"}]


@pytest.mark.parametrize("lost", ["manifest.json", "train/train_000.mp4", "annotations/val_000/00001.png"])
def test_a_half_made_set_is_made_again(tmp_path: Path, lost: str) -> None:
    data = SyntheticVOS(tmp_path, train_videos=1, val_videos=1, frames=2, size=(32, 48))
    data.prepare()
    content = (data.folder / lost).read_bytes()
    (data.folder / lost).unlink()
    with pytest.raises(DataError, match="prepare"):
        data.val_sequences()
    data.prepare()
    assert (data.folder / lost).read_bytes() == content
    assert len(data.val_sequences()) == 1


def test_an_interrupted_run_leaves_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = SyntheticVOS(tmp_path, train_videos=2, val_videos=1, frames=2, size=(32, 48))
    draw = Scene.draw

    def stop(self: Scene, t: int) -> tuple[np.ndarray, np.ndarray]:
        if (data.train_root / "train_000.mp4").exists():
            raise KeyboardInterrupt
        return draw(self, t)

    with monkeypatch.context() as patched:
        patched.setattr(Scene, "draw", stop)
        with pytest.raises(KeyboardInterrupt):
            data.prepare()
    assert [path.name for path in data.train_root.glob("*.mp4")] == ["train_000.mp4"]
    with pytest.raises(DataError, match="prepare"):
        data.val_sequences()


def test_other_settings_make_another_set(tmp_path: Path) -> None:
    plain = SyntheticVOS(tmp_path)
    assert SyntheticVOS(str(tmp_path), size=[192, 320], objects=[1, 3]).folder == plain.folder  # as YAML gives them
    others = [
        SyntheticVOS(tmp_path, seed=1),
        SyntheticVOS(tmp_path, frames=41),
        SyntheticVOS(tmp_path, train_videos=25),
        SyntheticVOS(tmp_path, objects=(1, 2)),
        SyntheticVOS(tmp_path, size=(96, 160)),
    ]
    assert len({data.folder for data in [plain, *others]}) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_videos": 0}, "train_videos.* 0"),
        ({"val_videos": -1}, "val_videos"),
        ({"frames": 1}, "frames"),
        ({"size": (33, 48)}, "size.*33"),
        ({"size": (16, 48)}, "size.*16"),
        ({"seed": -1}, "seed"),
        ({"objects": (2, 1)}, "objects"),
        ({"objects": (0, 1)}, "objects"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticVOS("data", **wrong)
