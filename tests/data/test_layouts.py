import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.data.davis import davis_sequences
from vos_umec.data.youtube_vos import youtube_vos_frames, youtube_vos_sequences
from vos_umec.errors import DataError

FrameFolder = Callable[..., Path]


def write_masks(folder: Path, masks: dict[str, list[int]]) -> None:
    """An indexed PNG for each name, with these ids in it."""
    folder.mkdir(parents=True)
    for name, ids in masks.items():
        image = Image.fromarray(np.resize(np.array(ids, np.uint8), (20, 30)))
        image.putpalette([value for i in range(256) for value in (i, 255 - i, 0)])
        image.save(folder / f"{name}.png")


def davis(root: Path, frame_folder: FrameFolder, resolution: str, names: list[str]) -> Path:
    for name in names:
        frame_folder(root / "JPEGImages" / resolution / name, frames=3)
        masks = {f"{t:05d}": [0, 1, 2] for t in range(3)}
        write_masks(root / "Annotations" / resolution / name, masks)
    return root


def write_list(root: Path, split: str, names: list[str]) -> None:
    listing = root / "ImageSets" / "2017" / f"{split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("\n".join(names) + "\n")


def test_davis_follows_its_list(tmp_path: Path, frame_folder: FrameFolder) -> None:
    root = davis(tmp_path, frame_folder, "480p", ["bear", "dog", "cat"])
    write_list(root, "val", ["dog", "bear"])
    sequences = davis_sequences(root)
    assert [sequence.name for sequence in sequences] == ["dog", "bear"]
    dog = sequences[0]
    masks = root / "Annotations" / "480p" / "dog"
    assert dog.annotations == {t: masks / f"{t:05d}.png" for t in range(3)}
    assert dog.prompts == {0: masks / "00000.png"}
    assert len(dog.source()) == 3


def test_davis_without_the_resolution_level(tmp_path: Path, frame_folder: FrameFolder) -> None:
    root = davis(tmp_path, frame_folder, "", ["dog", "bear"])
    assert [sequence.name for sequence in davis_sequences(root)] == ["bear", "dog"]
    write_list(root, "val", ["dog"])
    assert [sequence.name for sequence in davis_sequences(root)] == ["dog"]


def test_davis_test_split_has_first_masks_only(tmp_path: Path, frame_folder: FrameFolder) -> None:
    frame_folder(tmp_path / "JPEGImages" / "480p" / "dog")
    write_masks(tmp_path / "Annotations" / "480p" / "dog", {"00000": [0, 1]})
    write_list(tmp_path, "test-dev", ["dog"])
    (sequence,) = davis_sequences(tmp_path, "test-dev")
    assert set(sequence.annotations) == set(sequence.prompts) == {0}


def test_missing_parts_of_davis_are_errors(tmp_path: Path, frame_folder: FrameFolder) -> None:
    with pytest.raises(DataError, match=r"no folder .*JPEGImages"):
        davis_sequences(tmp_path)
    root = davis(tmp_path, frame_folder, "480p", ["dog"])
    with pytest.raises(DataError, match=r"2017/val\.txt: "):
        davis_sequences(root)
    write_list(root, "val", ["dog"])
    with pytest.raises(DataError, match=r"2017/test-dev\.txt: .* val;"):
        davis_sequences(root, "test-dev")
    write_list(root, "train", ["dog", "bear"])
    with pytest.raises(DataError, match="480p/bear: "):
        davis_sequences(root, "train")
    write_list(root, "none", [])
    with pytest.raises(DataError, match=r"none\.txt is empty"):
        davis_sequences(root, "none")


def test_a_mask_without_its_frame_is_an_error(tmp_path: Path, frame_folder: FrameFolder) -> None:
    root = davis(tmp_path, frame_folder, "", ["dog"])
    (root / "JPEGImages" / "dog" / "00001.png").unlink()
    with pytest.raises(DataError, match=r"1 masks of .*dog have no frame of the same name in .*, first 00001\.png"):
        davis_sequences(root)
    (root / "Annotations" / "dog" / "00001.png").unlink()
    (root / "Annotations" / "dog" / "00000.png").unlink()
    with pytest.raises(DataError, match=r"first frame in .*Annotations/dog"):
        davis_sequences(root)


@pytest.fixture
def ytvos(tmp_path: Path, frame_folder: FrameFolder) -> Path:
    """One video of six frames 00000 to 00025; object 2 enters on the third mask, 255 and 0 mean nothing."""
    frame_folder(tmp_path / "train" / "JPEGImages" / "003234408d", frames=6, step=5)
    frame_folder(tmp_path / "train" / "JPEGImages" / "unlabelled", frames=6, step=5)
    masks = {"00005": [0, 1], "00010": [0, 1, 255], "00015": [0, 2], "00020": [0], "00025": [1, 2]}
    write_masks(tmp_path / "train" / "Annotations" / "003234408d", masks)
    return tmp_path


def test_youtube_vos_prompts_are_the_masks_that_introduce_an_object(ytvos: Path) -> None:
    (sequence,) = youtube_vos_sequences(ytvos)
    assert sequence.name == "003234408d"
    assert sorted(sequence.annotations) == [1, 2, 3, 4, 5]
    assert {i: path.stem for i, path in sequence.prompts.items()} == {1: "00005", 3: "00015"}
    assert sequence.required == ()


def test_a_prompt_shows_only_the_objects_that_it_introduces(ytvos: Path) -> None:
    masks = ytvos / "train" / "Annotations" / "003234408d"
    first, late = Image.new("P", (30, 20)), Image.new("P", (30, 20))
    for image, boxes in (
        (first, {7: (0, 0, 5, 5)}),
        (late, {7: (1, 1, 6, 6), 3: (9, 9, 12, 12), 255: (20, 0, 30, 5)}),
    ):
        image.putpalette(list(range(256)) * 3)
        for id_, box in boxes.items():
            image.paste(id_, box)
    for path in masks.glob("*.png"):
        (first if path.stem < "00015" else late).save(path)
    (sequence,) = youtube_vos_sequences(ytvos)
    assert sequence.introduces == {1: (7,), 3: (3,)}
    prompts = sequence.prompt_masks()
    assert sorted(prompts) == [1, 3]
    assert np.array_equal(prompts[1], np.array(first))
    assert np.array_equal(prompts[3], np.where(np.array(late) == 3, 3, 0))


def test_a_davis_prompt_shows_all_objects(tmp_path: Path, frame_folder: FrameFolder) -> None:
    root = davis(tmp_path, frame_folder, "480p", ["dog"])
    write_list(root, "val", ["dog"])
    (dog,) = davis_sequences(root)
    prompts = dog.prompt_masks()
    assert list(prompts) == [0]
    assert sorted(np.unique(prompts[0]).tolist()) == [0, 1, 2]
    assert dog.required_names() == ["00000", "00001", "00002"]


def test_youtube_vos_meta_lists_the_required_frames(ytvos: Path, frame_folder: FrameFolder) -> None:
    objects = {"9": {"frames": ["00015", "00020"]}, "2": {"frames": ["00010", "00015"]}, "5": {"frames": []}}
    meta = ytvos / "train" / "meta.json"
    meta.write_text(json.dumps({"videos": {"003234408d": {"objects": objects}}}))
    (sequence,) = youtube_vos_sequences(ytvos)
    assert (sequence.required, sequence.introduces) == ((2, 3, 4), {2: (2,), 3: (9,)})
    frame_folder(ytvos / "train_all_frames" / "JPEGImages" / "003234408d", frames=30)
    (sequence,) = youtube_vos_sequences(ytvos)  # where it is, every frame is read
    assert len(sequence.source()) == 30
    assert (sequence.required, sequence.introduces) == ((10, 15, 20), {10: (2,), 15: (9,)})
    assert sequence.required_names() == ["00010", "00015", "00020"]
    assert len(youtube_vos_sequences(ytvos, all_frames=False)[0].source()) == 6
    objects["2"]["frames"].append("00035")
    meta.write_text(json.dumps({"videos": {"003234408d": {"objects": objects}}}))
    with pytest.raises(DataError, match=r"1 required frames of 003234408d are not in .*, first 00035"):
        youtube_vos_sequences(ytvos)


def test_youtube_vos_videos_can_be_chosen(ytvos: Path) -> None:
    assert [sequence.name for sequence in youtube_vos_sequences(ytvos, videos=["003234408d"])] == ["003234408d"]
    with pytest.raises(DataError, match=r"1 of the 2 videos .*Annotations \(unlabelled\)"):
        youtube_vos_sequences(ytvos, videos=["003234408d", "unlabelled"])


def test_youtube_vos_meta_lists_prompts_without_reading_masks(ytvos: Path) -> None:
    objects = {"1": {"frames": ["00010", "00025"]}, "2": {"frames": ["00020"]}}
    meta = ytvos / "train" / "meta.json"
    meta.write_text(json.dumps({"videos": {"003234408d": {"objects": objects}}}))
    (sequence,) = youtube_vos_sequences(ytvos)
    assert sorted(sequence.prompts) == [2, 4]
    objects["2"]["frames"] = ["00000"]  # a mask that is not there: believe the masks instead
    meta.write_text(json.dumps({"videos": {"003234408d": {"objects": objects}}}))
    assert sorted(youtube_vos_sequences(ytvos)[0].prompts) == [1, 3]
    meta.write_text('{"videos": 3}')
    with pytest.raises(DataError, match=r"meta\.json"):
        youtube_vos_sequences(ytvos)


def test_youtube_vos_with_every_frame_requires_every_fifth(ytvos: Path, frame_folder: FrameFolder) -> None:
    with pytest.raises(DataError, match="train_all_frames"):
        youtube_vos_sequences(ytvos, all_frames=True)
    frame_folder(ytvos / "train_all_frames" / "JPEGImages" / "003234408d", frames=30)
    (sequence,) = youtube_vos_sequences(ytvos, all_frames=True)
    assert sorted(sequence.annotations) == [5, 10, 15, 20, 25]
    assert sorted(sequence.prompts) == [5, 15]
    assert sequence.required == (0, 5, 10, 15, 20, 25)


def test_youtube_vos_frames_need_no_labels(ytvos: Path) -> None:
    assert youtube_vos_frames(ytvos) == ytvos / "train" / "JPEGImages"
    with pytest.raises(DataError, match="valid"):
        youtube_vos_frames(ytvos, "valid")
    with pytest.raises(DataError, match="valid"):
        youtube_vos_sequences(ytvos, "valid")


def test_layouts_need_no_torch() -> None:
    program = "import sys, vos_umec.data.davis, vos_umec.data.youtube_vos; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_real_layouts(real_data: Path) -> None:
    davis17 = davis_sequences(real_data / "davis")
    assert [sequence.name for sequence in davis17][:2] == ["blackswan", "bmx-trees"]
    assert all(len(sequence.annotations) == len(sequence.source()) for sequence in davis17)
    (jump,) = davis_sequences(real_data / "davis240p")
    assert jump.name == "dogs-jump"
    (ytvos,) = youtube_vos_sequences(real_data / "ytvos")
    assert len(ytvos.annotations) == 15
    assert 0 in ytvos.prompts
