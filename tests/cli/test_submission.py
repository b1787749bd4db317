import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.png import davis_palette

SIZE = (12, 20)


def frames(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", SIZE[::-1]).save(folder / f"{name}.jpg")


def mask(**areas: slice) -> np.ndarray:
    ids = np.zeros(SIZE, np.uint8)
    for name, columns in areas.items():
        ids[2:9, columns] = int(name.removeprefix("id"))
    return ids


@pytest.fixture
def ytvos(tmp_path: Path) -> Path:
    """Video a: object 4 from 00005 on, object 2 from 00015 on, 00000 and 00020 not asked for. Video b: object 1."""
    root, names = tmp_path / "ytvos", [f"{t:05d}" for t in range(0, 25, 5)]
    for video in "ab":
        frames(root / "valid" / "JPEGImages" / video, names)
    masks = root / "valid" / "Annotations"
    write_mask(masks / "a" / "00005.png", mask(id4=slice(0, 5)))
    write_mask(masks / "a" / "00015.png", mask(id2=slice(6, 9)))
    write_mask(masks / "b" / "00000.png", mask(id1=slice(0, 9)))
    objects = {"2": {"frames": names[3:4]}, "4": {"frames": names[1:4]}}
    videos = {"a": {"objects": objects}, "b": {"objects": {"1": {"frames": names}}}}
    (root / "valid" / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Masks on all frames, and files that nobody asks for."""
    folder = tmp_path / "results"
    for t in range(0, 25, 5):
        late = {"id2": slice(6, 9)} if t >= 15 else {}
        write_mask(folder / "a" / f"{t:05d}.png", mask(id4=slice(0, 5), **late))
        image = Image.fromarray(mask(id1=slice(t // 5, 9)))
        image.putpalette([0, 0, 0, 9, 9, 9])  # two colors: not 8 bits a pixel
        (folder / "b").mkdir(exist_ok=True)
        image.save(folder / "b" / f"{t:05d}.png")
    (folder / "a" / "notes.txt").touch()
    (folder / "c").mkdir()
    return folder


def submit(results: Path, root: Path, out: Path, dataset: str = "youtube-vos", *more: str) -> int:
    return main(["submission", str(results), "--dataset", dataset, "--root", str(root), "--out", str(out), *more])


def error_lines(capsys) -> list[str]:
    """Lines of the error stream; before 15, rich prints an empty one for a progress bar that is off."""
    return [line for line in capsys.readouterr().err.splitlines() if line]


def test_a_youtube_vos_zip_holds_what_the_server_asks_for(ytvos, results, tmp_path, capsys):
    out = tmp_path / "out" / "results.zip"
    assert submit(results, ytvos, out) == 0
    assert "8 masks of 2 videos" in capsys.readouterr().out
    with zipfile.ZipFile(out) as packed:
        a, b = (
            (f"Annotations/a/{5 * t:05d}.png" for t in (1, 2, 3)),
            (f"Annotations/b/{5 * t:05d}.png" for t in range(5)),
        )
        assert packed.namelist() == [*a, *b]
        packed.extractall(tmp_path / "unpacked")
    for path in (tmp_path / "unpacked").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("P", SIZE[::-1])
            assert image.getpalette() == davis_palette().ravel().tolist()
            assert np.array_equal(np.array(image), read_mask(results / path.parent.name / path.name))


def test_the_same_masks_give_the_same_bytes(ytvos, results, tmp_path):
    assert submit(results, ytvos, tmp_path / "first.zip") == 0
    assert submit(results, ytvos, tmp_path / "first.zip") == 0  # what it wrote itself may be replaced
    for path in results.rglob("*.png"):
        ids = read_mask(path)
        path.unlink()
        write_mask(path, ids)  # another palette, depth and time
    assert submit(results, ytvos, tmp_path / "second.zip") == 0
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_every_problem_is_one_line_and_nothing_is_written(ytvos, results, tmp_path, capsys):
    out = tmp_path / "results.zip"
    out.write_text("before")
    shutil.rmtree(results / "b")
    (results / "a" / "00015.png").unlink()
    write_mask(results / "a" / "00005.png", mask(id4=slice(0, 5))[:, :-1])
    Image.new("RGB", SIZE[::-1]).save(results / "a" / "00010.png")
    assert submit(results, ytvos, out) == 1  # before anything is read
    assert "--overwrite" in capsys.readouterr().err
    assert submit(results, ytvos, out, "youtube-vos", "--overwrite") == 1
    told = [
        rf"vos-umec: error: {out} .* 4 problem",
        rf"  {results}/a .* 1 of the 3 .*: 00015\.png",
        rf"  {results}/a/00005\.png .*19 x 12 .*20 x 12",
        rf"  {results}/a/00010\.png .* RGB: .*indexed PNG",
        rf"  .* video b: .* 5 masks in {results}/b",
    ]
    for line, words in zip(capsys.readouterr().err.splitlines(), told, strict=True):
        assert re.match(words, line)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "results.zip", "ytvos"]


@pytest.mark.parametrize("id_", [1, 3, 255])
def test_ids_that_the_video_does_not_have_are_told(ytvos, results, tmp_path, capsys, id_):
    write_mask(results / "a" / "00010.png", mask(**{"id4": slice(0, 5), f"id{id_}": slice(10, 12)}))
    assert submit(results, ytvos, tmp_path / "results.zip") == 1
    assert re.search(rf"a/00010\.png .*ids {id_}, .* 0, and 2, 4", capsys.readouterr().err)


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_files_that_are_no_picture_are_told(ytvos, results, tmp_path, capsys, content):
    (results / "a" / "00010.png").write_bytes(content)
    assert submit(results, ytvos, tmp_path / "results.zip") == 1
    assert "a/00010.png" in capsys.readouterr().err


def test_an_object_that_no_mask_shows_is_told_but_packed(ytvos, results, tmp_path, caplog):
    write_mask(results / "a" / "00015.png", mask(id4=slice(0, 5)))
    assert submit(results, ytvos, tmp_path / "results.zip") == 0
    assert re.search("video a .*object 2", caplog.text)


def test_a_data_set_that_is_not_whole_is_told(ytvos, results, tmp_path, capsys):
    shutil.rmtree(ytvos / "valid" / "Annotations" / "b")
    assert submit(results, ytvos, tmp_path / "results.zip") == 1
    assert re.search(r"video b .*meta\.json", capsys.readouterr().err)


def test_places_that_are_not_there_are_one_line(ytvos, results, tmp_path, capsys):
    assert submit(tmp_path / "absent", ytvos, tmp_path / "results.zip") == 1
    assert submit(results, tmp_path / "absent", tmp_path / "results.zip") == 1
    (tmp_path / "file").touch()
    assert submit(results, ytvos, tmp_path / "file" / "results.zip") == 1
    lines = capsys.readouterr().err.splitlines()
    for line, place in zip(lines, ("absent", "absent", "file/results.zip"), strict=True):
        assert f"{tmp_path}/{place}" in line


def test_a_davis_zip_has_its_videos_at_the_top_and_every_frame(tmp_path):
    names = [f"{t:05d}" for t in range(3)]
    for video in ("dog", "cat"):
        frames(tmp_path / "davis" / "JPEGImages" / "480p" / video, names)
        first = tmp_path / "davis" / "Annotations" / "480p" / video / "00000.png"
        write_mask(first, mask(id1=slice(0, 5), id2=slice(9, 12)))
        for name in names:
            write_mask(tmp_path / "results" / video / f"{name}.png", read_mask(first))
    listing = tmp_path / "davis" / "ImageSets" / "2017" / "test-dev.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("dog\ncat\n")
    assert submit(tmp_path / "results", tmp_path / "davis", tmp_path / "davis.zip", "davis17-test-dev") == 0
    with zipfile.ZipFile(tmp_path / "davis.zip") as packed:
        assert packed.namelist() == [f"{video}/{name}.png" for video in ("cat", "dog") for name in names]
        assert packed.testzip() is None


def test_needs_no_torch(ytvos, results, tmp_path):
    words = [
        "submission",
        str(results),
        "--dataset",
        "youtube-vos",
        "--root",
        str(ytvos),
        "--out",
        str(tmp_path / "a.zip"),
    ]
    program = (
        f"import sys; from vos_umec.cli.main import main; status = main({words!r});"
        "sys.exit(status or ' '.join({'torch', 'decord', 'kornia'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.slow
def test_predicted_masks_of_the_real_sample_are_packed(real_data, tmp_path, capsys):
    """Objects 1, 2 and 5 become 3 (late), 8 and 200; 00000 and 00070 are not asked for, though frames are there."""
    root, name = tmp_path / "ytvos" / "train", "003234408d"
    shutil.copytree(real_data / "ytvos" / "train" / "JPEGImages" / name, root / "JPEGImages" / name)
    for path in sorted((real_data / "ytvos" / "train" / "Annotations" / name).glob("*.png")):
        given, ids = read_mask(path), np.zeros((180, 320), np.uint8)
        for old, new in ((1, 3), (2, 8), (5, 200)):
            ids[given == old] = new if new != 3 or path.stem >= "00030" else 0
        write_mask(root / "Annotations" / name / path.name, ids)
    asked = [f"{t:05d}" for t in range(5, 70, 5)]
    objects = {"8": {"frames": asked}, "200": {"frames": asked}, "3": {"frames": asked[5:]}}
    (root / "meta.json").write_text(json.dumps({"videos": {name: {"objects": objects}}}))
    arguments = ["--config", "configs/ytvos_predict.yaml", f"--data.root={root.parent}", "--data.split=train"]
    arguments += [
        "--model.network=tiny",
        "--model.evaluation.segmenter={short_side: 48}",
        "--trainer.accelerator=cpu",
    ]
    arguments += ["--trainer.enable_progress_bar=false", f"--trainer.logger.save_dir={tmp_path}"]
    assert main(["predict", *arguments]) == 0
    results = tmp_path / "ytvos_predict" / "version_0" / "predictions"
    assert sorted(path.stem for path in (results / name).iterdir()) == asked

    assert submit(results, root.parent, tmp_path / "a.zip", "youtube-vos", "--split", "train") == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert packed.namelist() == [f"Annotations/{name}/{stem}.png" for stem in asked]
        packed.extractall(tmp_path / "unpacked")
    for stem in asked:
        with Image.open(tmp_path / "unpacked" / "Annotations" / name / f"{stem}.png") as image:
            assert (image.mode, image.size) == ("P", (320, 180))
            assert set(np.unique(image).tolist()) <= {0, 8, 200} | ({3} if stem >= "00030" else set())
    truth = read_mask(root / "Annotations" / name / "00030.png")
    late = read_mask(tmp_path / "unpacked" / "Annotations" / name / "00030.png")
    assert (late[truth == 3] == 3).all()  # given
    assert not np.array_equal(late, truth)  # the others, known before, are carried and not given once more

    shutil.rmtree(results / name)
    capsys.readouterr()
    assert submit(results, root.parent, tmp_path / "b.zip", "youtube-vos", "--split", "train") == 1
    assert re.search(f"video {name}.* 13 masks", capsys.readouterr().err)
    assert not (tmp_path / "b.zip").exists()
