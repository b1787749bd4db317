"""Files and folders that are written completely or not at all."""

import shutil

import pytest

from vos_umec.io.atomic import atomic_folder, atomic_path


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_is_replaced_or_stays(tmp_path):
    target = tmp_path / "new" / "a.txt"
    for text in ("old", "new"):
        with atomic_path(target) as temporary:
            temporary.write_text(text)
    with pytest.raises(IsADirectoryError), atomic_path(target):
        tmp_path.write_text("fails")
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt", "new"]


def test_a_folder_is_replaced_or_stays(tmp_path):
    target = tmp_path / "new" / "frames"
    (tmp_path / "new" / ".frames.tmp").mkdir(parents=True)  # left behind by a killed process
    (tmp_path / "new" / ".frames.tmp" / "half.txt").touch()
    for name in ("old.txt", "new.txt"):
        with atomic_folder(target) as temporary:
            (temporary / name).touch()
    with pytest.raises(IsADirectoryError), atomic_folder(target) as temporary:
        (temporary / "half.txt").write_text(str(tmp_path.write_text("fails")))
    assert names(tmp_path) == ["frames", "new", "new.txt"]


def test_where_the_new_folder_cannot_take_its_place_the_old_one_stays(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "old.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "frames") as temporary:
        shutil.rmtree(temporary)
    assert names(tmp_path) == ["frames", "old.txt"]
