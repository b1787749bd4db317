import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.data import index as index_module
from vos_umec.data import probe, processes
from vos_umec.data.index import scan
from vos_umec.data.search import find_videos
from vos_umec.errors import DataError, VosUmecError
from vos_umec.io.video_writer import VideoWriter

FrameFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes opening a video an error."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a video was opened")

    monkeypatch.setattr(index_module, "describe_all", refuse)


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_videos(root).videos]


def test_search_finds_files_and_folders_at_any_depth(tmp_path: Path, frame_folder: FrameFolder) -> None:
    frame_folder(tmp_path / "a" / "b" / "frames", frames=2)
    frame_folder(tmp_path / "a" / "b" / "frames" / "not descended into", frames=2)
    frame_folder(tmp_path / "one picture", frames=1)
    frame_folder(tmp_path / ".hidden", frames=3)
    frame_folder(tmp_path / "with thumbnails", frames=3)
    for name in ("a/b/x.MP4", "z.webm", "z.txt", "z.csv", "z.mp3", ".z.mp4", "with thumbnails/w.mkv"):
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path) == ["z.webm", "a/b/x.MP4", "a/b/frames", "with thumbnails/w.mkv"]


def test_search_follows_links_but_not_in_circles(tmp_path: Path, frame_folder: FrameFolder) -> None:
    frame_folder(tmp_path / "elsewhere" / "frames")
    root = tmp_path / "root"
    root.mkdir()
    (root / "first").symlink_to(tmp_path / "elsewhere")
    (root / "second").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(root)
    (root / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (root / "round").symlink_to(root / "round")
    assert names(root) == ["first/frames"]


def test_unreadable_folders_are_skipped_with_a_warning(
    tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("dog", "lost+found"):
        frame_folder(tmp_path / name)
    look = os.scandir

    def scandir(folder: Path) -> object:  # rights do not keep out a superuser, which tests may run as
        if Path(folder).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return look(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names(tmp_path) == ["dog"]
    assert "lost+found is skipped: Permission denied" in caplog.text


def test_search_never_takes_labels_for_videos(tmp_path: Path, frame_folder: FrameFolder) -> None:
    for kind in ("JPEGImages", "Annotations", "Annotations_unsupervised"):
        frame_folder(tmp_path / "davis" / kind / "480p" / "dog")
    frame_folder(tmp_path / "holiday" / "Annotations")  # just a name, no data set
    assert names(tmp_path) == ["davis/JPEGImages/480p/dog", "holiday/Annotations"]


def test_scan_gives_facts_and_a_reader(tmp_path: Path, frame_folder: FrameFolder) -> None:
    frame_folder(tmp_path / "b" / "frames", frames=7, size=(20, 30))
    frame_folder(tmp_path / "a", frames=3, size=(40, 24))
    index = scan(tmp_path)
    assert [entry.id for entry in index] == ["a", "b/frames"]
    found = [(entry.facts.frames, entry.facts.size, entry.facts.fps) for entry in index]
    assert found == [(3, (40, 24), 24.0), (7, (20, 30), 24.0)]
    assert index.broken == ()
    source = index.entries[1].source()
    assert len(source) == 7
    assert source.read([5])[0, 0, 0].tolist() == [5, 0, 0]


def write_video(path: Path, fps: float) -> None:
    with VideoWriter(path, fps=fps, gop=10) as writer:
        for t in range(24):
            writer.write(np.full((32, 48, 3), 10 * t, np.uint8))


def test_the_index_keeps_key_frames_and_time_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "clip.mp4", fps=25)
    scan(tmp_path)
    monkeypatch.setattr("vos_umec.io.source.scan_video", lambda path: pytest.fail("decoded again"))
    (entry,) = scan(tmp_path)  # from the disk this time
    assert entry.facts.keys[0] == 0
    assert max(np.diff([*entry.facts.keys, 24])) <= 10
    assert sum(count for _, count in entry.facts.stamps) == 24
    shown = entry.source().read([13, 3, 22], (16, 24)).mean(axis=(1, 2, 3))
    assert np.abs(shown - [130, 30, 220]).max() < 4


def test_a_video_file_has_a_frame_rate_and_a_folder_has_none(tmp_path: Path, frame_folder: FrameFolder) -> None:
    write_video(tmp_path / "clip.mp4", fps=12.5)
    frame_folder(tmp_path / "dog")
    for _ in range(2):  # the second time from the disk
        assert [(entry.id, entry.fps) for entry in scan(tmp_path)] == [("clip.mp4", 12.5), ("dog", None)]


def test_a_frame_folder_may_be_the_root(tmp_path: Path, frame_folder: FrameFolder) -> None:
    assert [entry.id for entry in scan(frame_folder(tmp_path / "dog"))] == ["dog"]


def test_broken_videos_are_listed_and_counted_in_one_warning(
    tmp_path: Path, frame_folder: FrameFolder, caplog: pytest.LogCaptureFixture
) -> None:
    frame_folder(tmp_path / "good")
    frame_folder(tmp_path / "tiny", size=(1, 1))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    mixed = frame_folder(tmp_path / "mixed sizes", frames=2)
    Image.new("RGB", (50, 50)).save(mixed / "99.png")
    with caplog.at_level(logging.WARNING):
        index = scan(tmp_path)
    assert [entry.id for entry in index] == ["good"]
    reasons = {path.name: reason for path, reason in index.broken}
    assert sorted(reasons) == ["empty.mp4", "mixed sizes", "noise.mkv", "tiny"]
    assert "one size" in reasons["mixed sizes"]
    assert all(reason and "\n" not in reason for reason in reasons.values())
    assert [record.getMessage()[:17] for record in caplog.records] == ["4 of 5 videos in "]


def test_only_changed_videos_are_opened_again(
    tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing, _ = frame_folder(tmp_path / "changing"), frame_folder(tmp_path / "stable")
    (tmp_path / "broken.mp4").write_bytes(b"")
    before = scan(tmp_path)
    asked: list[str] = []

    def spy(paths: list[Path], processes: int) -> list[dict[str, object]]:
        asked.extend(path.name for path in paths)
        return [probe.describe(path) for path in paths]

    monkeypatch.setattr(index_module, "describe_all", spy)
    assert scan(tmp_path) == before
    assert asked == []
    Image.new("RGB", (30, 20)).save(changing / "99999.png")
    after = scan(tmp_path)
    assert asked == ["changing"]
    assert [entry.facts.frames for entry in after] == [10, 9]
    for picture in changing.glob("*.png"):  # in place: the folder itself does not change
        Image.new("RGB", (60, 40)).save(picture)
    assert [entry.facts.size for entry in scan(tmp_path)] == [(40, 60), (20, 30)]
    assert asked == ["changing"] * 2


def test_a_temporary_failure_is_not_cached(
    tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "slow"):
        frame_folder(tmp_path / name)

    def answers(paths: list[Path], processes: int) -> list[dict[str, object]]:
        late = {"reason": "no answer in 60 s", "temporary": True}
        return [late if path.name == "slow" else probe.describe(path) for path in paths]

    with monkeypatch.context() as busy:
        busy.setattr(index_module, "describe_all", answers)
        assert [entry.id for entry in scan(tmp_path)] == ["good"]
    assert [entry.id for entry in scan(tmp_path)] == ["good", "slow"]


def test_a_missing_permission_is_temporary(
    tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = frame_folder(tmp_path / "dog")

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert probe.describe(folder) == {"reason": "it cannot be looked at: Permission denied", "temporary": True}


def test_numbers_in_names_may_exceed_int64(tmp_path: Path) -> None:
    for t in range(4):
        Image.new("RGB", (30, 20)).save(tmp_path / f"2024011512345600000{t * 5:02d}.png")
    assert probe.describe(tmp_path)["step"] == 5


def test_an_error_in_one_request_leaves_the_others_answered(tmp_path: Path) -> None:
    answers = list(processes.ask_all("vos_umec.data.probe", [3, "no/such.mp4"], [60.0] * 2, processes=1))
    assert "TypeError" in answers[0]["reason"]
    assert "no such file" in answers[1]["reason"]


@pytest.mark.usefixtures("no_probe")
def test_a_cached_index_is_enough(tmp_path: Path, frame_folder: FrameFolder) -> None:
    folder = frame_folder(tmp_path / "dog")
    facts = {"reader": "folder", "frames": 9, "size": [20, 30], "fps": 24.0, "keys": [], "stamps": [], "step": 1}
    facts |= {"rate": None, "left_out": [], "flat": False, "plain": False}
    ((_, stamp),) = find_videos(folder).videos.items()
    kept = {"format": 5, "videos": {"dog": {"stamp": stamp, **facts}, "gone": {"stamp": [0, 0], **facts}}}
    (tmp_path / ".vos_umec_index.json").write_text(json.dumps(kept))
    assert [entry.id for entry in scan(tmp_path)] == ["dog"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 5}', '{"format": 4, "videos": {}}'])
def test_a_useless_cached_index_is_made_again(tmp_path: Path, frame_folder: FrameFolder, text: str) -> None:
    frame_folder(tmp_path / "dog")
    (tmp_path / ".vos_umec_index.json").write_text(text)
    assert len(scan(tmp_path)) == 1
    assert "dog" in json.loads((tmp_path / ".vos_umec_index.json").read_text())["videos"]


def test_a_folder_that_cannot_be_written_has_its_index_elsewhere(
    tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame_folder(tmp_path / "dog")
    (tmp_path / ".vos_umec_index.json").mkdir()  # cannot be replaced, whoever runs the test
    first = scan(tmp_path)
    assert [path.suffix for path in Path(os.environ["XDG_CACHE_HOME"], "vos_umec").iterdir()] == [".json"]
    monkeypatch.setattr(index_module, "describe_all", lambda *_, **__: pytest.fail("opened a video"))
    assert scan(tmp_path) == first


@pytest.mark.parametrize(("step", "warned"), [(5, True), (1, False)])
def test_every_fifth_frame_is_warned_of(
    tmp_path: Path, frame_folder: FrameFolder, caplog: pytest.LogCaptureFixture, step: int, warned: bool
) -> None:
    frame_folder(tmp_path / "003234408d", step=step)
    with caplog.at_level(logging.WARNING):
        index = scan(tmp_path)
    assert index.entries[0].step == step
    assert any("every 5th frame" in record.getMessage() for record in caplog.records) == warned


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        scan(tmp_path / "nowhere")
    (tmp_path / "file.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"file\.mp4 "):
        scan(tmp_path / "file.mp4")
    with pytest.raises(DataError, match=r" 1 videos .*file\.mp4: "):
        scan(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"/empty: .*\.mp4"):
        scan(tmp_path / "empty")


def _pretend(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Replaces the process that opens videos by another program."""
    original = processes.subprocess.Popen
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(processes.subprocess, "Popen", lambda _, **kwargs: original(command, **kwargs))


def test_a_decoder_that_hangs_costs_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "print('ready', flush=True); import time; time.sleep(60)")
    start = time.monotonic()
    answers = list(probe.describe_all([tmp_path / "a.mp4", tmp_path / "b.mp4"], processes=1, seconds=0.3))
    assert answers == [{"reason": "no answer in 0 s", "temporary": True}] * 2
    assert time.monotonic() - start < 30


def test_a_decoder_that_crashes_costs_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(
        monkeypatch,
        "import os, sys; print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    os.abort() if 'bad' in line else print('{\"frames\": 5, \"warnings\": []}', flush=True)",
    )
    answers = list(probe.describe_all([tmp_path / f"{name}.mp4" for name in ("bad", "good", "bad")], processes=1))
    assert answers == [{"reason": "the decoder crashed (exit code -6)"}, {"frames": 5}, answers[0]]


def _serving(program: str) -> tuple[int, str]:
    """Exit code and answers of a process that serves what `program` defines as `work`, asked once."""
    program = f"import time\nfrom vos_umec.data import processes\n{program}\nprocesses.serve(work)"
    done = subprocess.run(
        [sys.executable, "-c", program], input='"x"\n', capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout


def test_a_process_that_hangs_ends_itself_and_one_that_works_on_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _serving("processes._PATIENCE = 0.5\ndef work(request): time.sleep(50)")[0] == processes._IDLE
    busy = (
        "from vos_umec.io.frames import report_progress\nprocesses._PATIENCE = 1.5\n"
        "def work(request):\n    for _ in range(30):\n        time.sleep(0.1)\n        report_progress()\n"
        "    return {}"
    )
    assert _serving(busy)[0] == 0
    _pretend(monkeypatch, "import os; print('ready', flush=True); input(); os._exit(1)")
    answers = list(probe.describe_all([tmp_path / "a.mp4"], processes=1))
    assert answers == [{"reason": "no frame was decoded for 18 s", "temporary": True}]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_a_process_that_looks_into_videos_takes_two_gibibytes_at_most() -> None:
    code, answer = _serving(
        "import numpy as np\ndef work(request): return {'sum': len(np.ones(3 * 2**30, np.uint8))}"
    )
    assert code == 0
    assert "MemoryError" in answer


def test_a_process_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(VosUmecError, match=r"-m vos_umec\.data\.probe"):
        list(probe.describe_all([tmp_path / "a.mp4"], processes=1))


@pytest.mark.slow
def test_real_videos(real_data: Path, tmp_path: Path) -> None:
    """The folder is full of broken and odd files: each ends up as a video or with a reason."""
    (tmp_path / "videos").mkdir()
    for part in ("odd", "videos/davis_train", "videos/various", "ytvos"):
        (tmp_path / part).symlink_to(real_data / part)
    index = scan(tmp_path)
    frames = {entry.id: entry.facts.frames for entry in index}
    assert len(index) + len(index.broken) == len(find_videos(tmp_path).videos)
    assert len(index) > 40
    assert frames["videos/davis_train/bus.avi"] == 80
    assert frames["videos/various/shiba_frames"] == 30
    assert frames["ytvos/train/JPEGImages/038c15a5dd"] == 15
    assert not any("Annotations" in name for name in frames)
