import json
from pathlib import Path

import pytest

from vos_umec.data.youtube_meta import (
    ObjectMeta,
    choose_held_out,
    read_names,
    require_categories,
    unseen_categories,
    youtube_vos_meta,
)
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
    with pytest.raises(DataError, match=r"is not a YouTube-VOS meta\.json"):
        youtube_vos_meta(tmp_path)


def test_unseen_is_what_no_other_video_shows() -> None:
    videos = meta(a="dog panda", b="dog cat", c="snail")
    assert unseen_categories(videos, ["a"]) == {"panda"}
    assert unseen_categories(videos, ["a", "b"]) == {"dog", "panda", "cat"}
    assert unseen_categories(videos, []) == set()
    hidden = {"a": {1: ObjectMeta(("00000",), None)}, "b": {1: ObjectMeta(("00000",), "dog")}}
    assert unseen_categories(hidden, ["a"]) == set()


def test_held_out_are_all_videos_of_the_unseen_categories_and_a_steady_share_of_the_others() -> None:
    videos = meta(**{f"v{n}": "panda dog" if n % 50 == 0 else "dog" for n in range(1000)})
    chosen = choose_held_out(videos, ["panda"], share=0.1)
    assert chosen == sorted(chosen)
    assert {f"v{n}" for n in range(0, 1000, 50)} <= set(chosen)
    assert 80 < len(chosen) < 160  # 20, and a tenth of 980 with a spread of 9
    assert unseen_categories(videos, chosen) == {"panda"}
    half = {name: videos[name] for name in list(videos)[:500]}
    assert choose_held_out(half, ["panda"], share=0.1) == [name for name in chosen if name in half]
    assert choose_held_out(videos, share=0) == []
    assert choose_held_out(videos, share=1) == sorted(videos)


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ConfigError, match=r"share is 1\.5"):
        choose_held_out({}, share=1.5)
    with pytest.raises(ConfigError, match="no video has the category bear, pnda: expected categories of"):
        require_categories(meta(a="panda"), ["pnda", "panda", "bear"])


def test_lists_of_names(tmp_path: Path) -> None:
    listing = tmp_path / "names.txt"
    listing.write_text("\n003234408d  \r\npolar bear\n\n")
    assert read_names(listing) == ["003234408d", "polar bear"]
    listing.write_text("\n \n")
    with pytest.raises(DataError, match="is empty"):
        read_names(listing)
    listing.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no list at"):
        read_names(listing)
