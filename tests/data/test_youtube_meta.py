import json
from pathlib import Path

import pytest

from vos_umec.data.sequences import read_names
from vos_umec.data.youtube_vos import ObjectMeta, require_categories, unseen_categories, youtube_vos_meta
from vos_umec.errors import ConfigError, DataError


def meta(**videos: str) -> dict[str, dict[int, ObjectMeta]]:
    """Videos by name with the categories of their objects, in words."""
    return {
        name: {k: ObjectMeta(("00000",), category) for k, category in enumerate(words.split(), start=1)}
        for name, words in videos.items()
    }


def test_the_file_is_read(tmp_path: Path) -> None:
    objects = {
        "7": {"category": "dog", "frames": ["00010", "00005"]},
        "2": {"frames": ["00000"]},
        "3": {"frames": []},
    }
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "meta.json").write_text(json.dumps({"videos": {"a": {"objects": objects}}}))
    read = youtube_vos_meta(tmp_path, "valid")
    assert read == {"a": {7: ObjectMeta(("00005", "00010"), "dog"), 2: ObjectMeta(("00000",), None)}}
    assert youtube_vos_meta(tmp_path, "train") == {}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"videos": {"a": 3}}', '{"videos": {"a": {"objects": {"x": {"frames": [1]}}}}}']
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "meta.json").write_text(text)
    with pytest.raises(DataError, match=r"train/meta\.json"):
        youtube_vos_meta(tmp_path)


def test_unseen_is_what_no_other_video_shows() -> None:
    videos = meta(a="dog panda", b="dog cat", c="snail")
    assert unseen_categories(videos, ["a"]) == {"panda"}
    assert unseen_categories(videos, ["a", "b"]) == {"dog", "panda", "cat"}
    assert unseen_categories(videos, []) == set()
    hidden = {"a": {1: ObjectMeta(("00000",), None)}, "b": {1: ObjectMeta(("00000",), "dog")}}
    assert unseen_categories(hidden, ["a"]) == set()


def test_unknown_categories_are_errors() -> None:
    with pytest.raises(ConfigError, match="no video has the category bear, pnda"):
        require_categories(meta(a="panda"), ["pnda", "panda", "bear"])


def test_lists_of_names(tmp_path: Path) -> None:
    listing = tmp_path / "names.txt"
    listing.write_text("\n003234408d  \r\npolar bear\n\n")
    assert read_names(listing) == ["003234408d", "polar bear"]
    listing.write_text("\n \n")
    with pytest.raises(DataError, match=r"names\.txt is empty"):
        read_names(listing)
    listing.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"names\.txt is no text"):
        read_names(listing)
