"""Files and folders that are written whole or not at all."""

import shutil

import pytest

from vos_umec.io.atomic import atomic_folder


def test_where_the_new_folder_cannot_take_its_place_the_old_one_stays(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "old.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "frames") as temporary:
        shutil.rmtree(temporary)
    assert [path.name for path in tmp_path.rglob("*")] == ["frames", "old.txt"]
