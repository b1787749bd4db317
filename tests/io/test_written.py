"""The record of what this program wrote."""

import pytest

from vos_umec.errors import ConfigError, DataError
from vos_umec.io.written import RECORD, WrittenFiles, single_file


def test_own_files_are_known_until_somebody_changes_them(tmp_path):
    files = WrittenFiles(tmp_path / "out")
    mine, theirs = tmp_path / "out" / "a" / "1.png", tmp_path / "out" / "a" / "2.png"
    files.write(mine, b"one")
    theirs.write_bytes(b"one")
    partial = tmp_path / "out" / "partial"
    partial.write_bytes(b"movie")
    files.adopt(partial, tmp_path / "out" / "m.mp4")
    for known in (files, WrittenFiles(tmp_path / "out")):
        assert known.foreign([mine, theirs, tmp_path / "out" / "m.mp4", tmp_path / "out" / "none"]) == [theirs]
    mine.write_bytes(b"two")
    assert WrittenFiles(tmp_path / "out").foreign([mine]) == [mine]
    files.write(mine, b"three")
    assert WrittenFiles(tmp_path / "out").is_own(mine)


def test_a_process_killed_at_any_byte_of_the_record_leaves_it_readable(tmp_path):
    files = WrittenFiles(tmp_path)
    for name in ("1", "2"):
        files.write(tmp_path / name, name.encode())
    record = (tmp_path / RECORD).read_bytes()
    for cut in range(len(record)):
        (tmp_path / RECORD).write_bytes(record[:cut])
        again = WrittenFiles(tmp_path)
        again.write(tmp_path / "3", b"3")
        assert WrittenFiles(tmp_path).is_own(tmp_path / "3")


def test_a_file_of_before_the_kill_is_still_own(tmp_path):
    """The line of a new file is written before the file itself."""
    files = WrittenFiles(tmp_path)
    files.write(tmp_path / "1", b"old")
    with (tmp_path / RECORD).open("a") as record:
        record.write("\n0123 1")
    assert WrittenFiles(tmp_path).is_own(tmp_path / "1")


def test_names_with_line_breaks_and_of_no_encoding_are_known_again(tmp_path):
    files = WrittenFiles(tmp_path)
    odd = [tmp_path / "fr\nme 1.png", tmp_path / "a\u2028b", tmp_path / "\udcff.png"]
    for path in odd:
        files.write(path, b"mask")
    assert WrittenFiles(tmp_path).foreign(odd) == []


def test_a_record_of_a_stranger_is_no_harm(tmp_path):
    (tmp_path / RECORD).write_text("1 " + "[" * 200_000 + "\n2 [1]\n3 {}\n4 5\n\xff\n5")
    (tmp_path / "5").write_text("mine")
    assert WrittenFiles(tmp_path).foreign([tmp_path / "5"]) == [tmp_path / "5"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "notes").write_text("mine")
    for folder in (tmp_path / "notes", tmp_path / "notes" / "deeper" / "out"):
        with pytest.raises(DataError, match="notes is a file; name a folder"):
            WrittenFiles(folder)
    with pytest.raises(ConfigError, match=r"cannot write .*a\.json: .*notes is a file"):
        single_file(tmp_path / "notes" / "a.json", "--json", overwrite=True)
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        single_file(tmp_path, "--out", overwrite=True)


def test_a_single_file_of_somebody_else_is_replaced_only_where_that_is_asked_for(tmp_path):
    file = tmp_path / "scores.json"
    single_file(file, "--json", overwrite=False).write(file, b"1")
    single_file(file, "--json", overwrite=False).write(file, b"2")  # its own
    file.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"choose another --json, or give --overwrite"):
        single_file(file, "--json", overwrite=False)
    single_file(file, "--json", overwrite=True).write(file, b"3")
    assert file.read_bytes() == b"3"
