"""Decoders that crash after the index has looked into their video: whom they take along, and what is told."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vos_umec.cli.main import main
from vos_umec.cli.others_errors import in_one_line
from vos_umec.data.clips import ClipDataset, ClipSampler, clip_loader
from vos_umec.data.crashes import crashed_at
from vos_umec.data.index import scan
from vos_umec.data.preparation import prepare
from vos_umec.errors import VosUmecError
from vos_umec.io.folder import FolderSource

FrameFolder = Callable[..., Path]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of other systems have other names")


@pytest.fixture
def videos(tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos, of which `bad b` crashes in a worker when more than one frame is read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "bad b", "c"):
        frame_folder(tmp_path / "videos" / name, frames=8, size=(40, 48))
    read = FolderSource.read

    def crash(self: FolderSource, indices: list[int], size: tuple[int, int] | None = None):
        if self.path.name == "bad b" and len(indices) > 1:
            assert multiprocessing.parent_process() is not None, "it would crash the process that trains"
            os.kill(os.getpid(), signal.SIGSEGV)
        return read(self, indices, size)

    monkeypatch.setattr(FolderSource, "read", crash)
    return tmp_path / "videos"


def read_all(videos: Path) -> None:
    clips = ClipDataset(scan(videos), clip_length=3, short_side=32)
    for _ in clip_loader(ClipSampler(clips), batch_size=3, num_workers=1):
        pass


def test_a_worker_that_crashes_is_told_in_one_line_with_its_video(videos: Path) -> None:
    with pytest.raises(VosUmecError) as error, in_one_line():
        read_all(videos)
    text = str(error.value)
    assert "\n" not in text
    for word in (f"while it read {videos / 'bad b'}", "Segmentation fault", "decoder", "vos-umec prepare"):
        assert word in text


def test_the_video_is_that_of_the_process_which_the_message_names(videos: Path) -> None:
    with pytest.raises(RuntimeError, match="DataLoader worker") as error:
        read_all(videos)
    assert crashed_at(str(error.value)) == videos / "bad b"
    assert crashed_at("DataLoader worker (pid 1) is killed by signal: Segmentation fault.") is None
    assert crashed_at("no process is named") is None


FIT = ["fit", "--config=configs/folder.yaml", "--data.short_side=40", "--data.crop=32", "--data.clip_length=3"]
FIT += [
    "--data.num_workers=1",
    "--data.batch_size=1",
    "--trainer.enable_progress_bar=false",
    "--model.network=tiny",
]
FIT += ["--trainer.enable_model_summary=false", "--trainer.precision=32-true", "--trainer.max_epochs=2"]


def test_a_refresh_reads_where_a_crash_does_not_end_the_training_without_a_word(
    videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(videos.parent)
    assert main([*FIT, "--data.root=videos", "--refresh.warmup_epochs=0"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vos-umec: error")]
    assert len(lines) == 1
    assert "while it read videos/bad b (DataLoader worker" in lines[0]


def test_a_copy_is_made_without_the_video_that_crashes(
    tmp_path: Path, frame_folder: FrameFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "bad"):
        frame_folder(tmp_path / "videos" / name, frames=8, size=(40, 48))
    scan(tmp_path / "videos")
    (tmp_path / "sitecustomize.py").write_text(  # of the processes that copy
        "import os, signal\n"
        "from vos_umec.io.folder import FolderSource\n"
        "read = FolderSource.read\n"
        "def crash(self, indices, size=None):\n"
        "    if self.path.name == 'bad' and len(indices) > 1:\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return read(self, indices, size)\n"
        "FolderSource.read = crash\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = prepare(tmp_path / "videos", tmp_path / "copy", short_side=32, workers=1)
    assert done.copied == ("a",)
    assert done.broken == ((tmp_path / "videos" / "bad", "the decoder crashed (exit code -11)"),)
    assert [path.name for path in (tmp_path / "copy").iterdir() if path.is_dir()] == ["a"]  # no half copy either
