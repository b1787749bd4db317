"""The app in a browser, as a person uses it: draw, follow, correct, download, come back.

It needs playwright and Chromium (`pip install playwright`, the system's `chromium`), and is skipped without them.
"""

import json
import shutil
import time
import zipfile
from contextlib import closing

import numpy as np
import pytest
from app_toys import SIZE, model, served, write_clip, write_frames

from vos_umec.app.follow import follow
from vos_umec.io.masks import read_mask
from vos_umec.io.rle import decode_rle
from vos_umec.io.source import open_source

playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
expect = playwright.expect
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the browser test needs chromium"),
]
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as player:
        # As root, as in most containers, Chromium starts without its sandbox alone.
        found = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


class Person:
    """Someone who uses the page; every fault of the page, and every word to another host, fails the test."""

    def __init__(self, browser, server, size, width=1280, scheme="light"):
        self.size = size
        self.faults = []
        context = browser.new_context(
            viewport={"width": width, "height": 820}, color_scheme=scheme, accept_downloads=True
        )
        self.page = page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.faults.append(said.text))
        own = f"http://127.0.0.1:{server.guard.port}/"
        page.on("request", lambda r: r.url.startswith((own, "blob:")) or self.faults.append(r.url))

    def open(self, address, path=None):
        self.page.goto(address)
        if path is not None:
            self.page.fill("#path", str(path))
            self.page.click("#path-form button")
        expect(self.page.locator("#speed")).to_contain_text("a frame", timeout=PATIENCE)
        return self

    def at(self, x, y):
        """A place of the frame on the page."""
        box = self.page.locator("#canvas").bounding_box()
        H, W = self.size
        scale = min(box["width"] / W, box["height"] / H)
        left, top = box["x"] + (box["width"] - W * scale) / 2, box["y"] + (box["height"] - H * scale) / 2
        return left + x * scale, top + y * scale

    def drag(self, *places):
        self.page.mouse.move(*self.at(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(*place), steps=3)
        self.page.mouse.up()

    def says(self, where, text):
        expect(self.page.locator(where)).to_contain_text(text, timeout=PATIENCE)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def masks_are_saved(self, number, frames):
        self.says("#coverage", f"{number} of {frames} frames")
        self.says("#saved", "Saved")

    def download(self, kind, place):
        with self.page.expect_download(timeout=PATIENCE) as coming:
            self.page.click(f"[data-download={kind}]")
        path = place / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def masks(self, place):
        """The masks as they are downloaded (T, H, W)."""
        with zipfile.ZipFile(self.download("davis", place)) as file:
            file.extractall(place / "zip")
        return np.stack([read_mask(path) for path in sorted((place / "zip").glob("*/*.png"))])


def library(frames, mask, **settings):
    return np.stack([ids for _, ids in model(**settings).segmenter(None).segment(frames, {0: mask})])


def test_draw_follow_correct_download_and_come_back(browser, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    frames = open_source(clip).read(range(8))
    with served(tmp_path / "sessions") as server:
        me = Person(browser, server, SIZE).open(server.address(), clip)
        page = me.page
        assert "token" not in page.url
        page.get_by_label("Name").first.fill("red one")
        me.press("Enter", "r")
        me.drag((8, 8), (28, 28))  # a box around the red square
        me.press("n")
        expect(page.locator("#objects li")).to_have_count(2)
        me.press("p")
        for corner in ((66, 36), (86, 36), (86, 56), (66, 56)):  # a polygon around the blue one
            page.mouse.click(*me.at(*corner))
        me.press("Enter")
        me.masks_are_saved(1, 8)
        me.press("f")
        me.says("#run-status", "Done: 7 frames forward")
        me.says("#coverage", "8 of 8")
        drawn = np.zeros(SIZE, np.uint8)
        drawn[8:28, 8:28] = 1
        drawn[36:56, 66:86] = 2
        found = me.masks(tmp_path / "first")
        np.testing.assert_array_equal(found[0], drawn)
        np.testing.assert_array_equal(found[1:], library(frames, drawn)[1:])

        me.press("Home", *["ArrowRight"] * 4)
        me.says("#frame-name", "5 / 8")
        me.press("1", "e")
        me.drag((20, 12), (40, 20))  # erase a piece of the red one, and give it another with the brush
        me.press("b")
        me.drag((50, 10), (56, 20))
        me.says("#saved", "Saved")
        me.press("f")
        me.says("#run-status", "Done: 3 frames forward")
        corrected = me.masks(tmp_path / "second")
        np.testing.assert_array_equal(corrected[:4], found[:4])
        assert ((corrected[4] == 1) & (found[4] != 1)).sum() > 20
        assert ((corrected[4] != 1) & (found[4] == 1)).sum() > 20
        np.testing.assert_array_equal(corrected[5:], library(frames[4:], corrected[4])[1:])

        coco = json.loads(me.download("coco", tmp_path).read_text())
        assert [c["name"] for c in coco["categories"]] == ["red one", "object 2"]
        for annotation in coco["annotations"]:
            where = corrected[annotation["image_id"]] == annotation["track_id"]
            np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), where)
        assert len(open_source(me.download("overlay", tmp_path))) == 8
        address = page.url
        assert me.faults == []

    # The app has ended, and begins again: on another port, with another token.
    with served(tmp_path / "sessions") as server:
        again = Person(browser, server, SIZE, width=820, scheme="dark")
        again.open(server.address(address.rsplit("/", 1)[1]))
        again.says("#coverage", "8 of 8")
        np.testing.assert_array_equal(again.masks(tmp_path / "third"), corrected)
        again.page.get_by_label("Remove object 2").click()
        again.page.get_by_role("button", name="Remove", exact=True).click()
        expect(again.page.locator("#objects li")).to_have_count(1)
        left = again.masks(tmp_path / "fourth")
        np.testing.assert_array_equal(left, np.where(corrected == 2, 0, corrected))
        again.press("Home", "Space")  # play
        again.says("#frame-name", "8 / 8")
        assert again.faults == []


def test_undo_gives_back_what_was_there(browser, tmp_path):
    clip = write_frames(tmp_path / "clip", frames=3)
    with served(tmp_path / "sessions") as server:
        me = Person(browser, server, SIZE).open(server.address(), clip)
        me.press("r")
        me.drag((8, 8), (28, 28))
        me.masks_are_saved(1, 3)
        first = me.masks(tmp_path / "a")[0]
        me.drag((40, 40), (60, 60))
        me.press("Control+z")
        me.says("#saved", "Saved")
        np.testing.assert_array_equal(me.masks(tmp_path / "b")[0], first)
        me.press("Control+z")
        me.masks_are_saved(0, 3)
        me.press("Control+Shift+z", "Control+Shift+z")
        me.masks_are_saved(1, 3)
        assert me.masks(tmp_path / "c")[0].sum() == 800
        assert me.faults == []


def slowly(*arguments):
    """Follows, and leaves the processor to the browser for a while after each frame."""
    with closing(follow(*arguments)) as frames:
        for index in frames:
            time.sleep(0.2)
            yield index


def test_two_tabs_stop_and_see_each_other(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("vos_umec.app.jobs.follow", slowly)
    clip = write_frames(tmp_path / "clip", frames=300)  # it would end a minute after the second tab has stopped it
    with served(tmp_path / "sessions") as server:
        me = Person(browser, server, SIZE).open(server.address(), clip)
        other = Person(browser, server, SIZE).open(f"{me.page.url}?token={server.guard.token}")
        me.press("r")
        me.drag((8, 8), (28, 28))
        other.says("#coverage", "1 of 300")  # of its own accord
        me.press("f")
        other.says("#run-status", "Following forward")
        other.page.mouse.click(*other.at(50, 50))
        other.says("#toasts", "stop that first")  # no drawing meanwhile
        other.press("s")
        me.says("#run-status", "Stopped at")
        me.press("f")
        me.says("#run-status", "Following forward")
        me.press("s")
        me.says("#run-status", "Stopped at")
        assert me.faults + other.faults == []


def test_a_real_clip(browser, tmp_path, real_data):
    clip = real_data / "davis240p" / "JPEGImages" / "dogs-jump"
    source = open_source(clip)
    (tmp_path / "dogs").mkdir()
    for path in sorted(clip.iterdir())[:5]:
        shutil.copy(path, tmp_path / "dogs" / path.name)
    frames = source.read(range(5))
    with served(tmp_path / "sessions", short_side=96) as server:
        me = Person(browser, server, source.size)
        me.page.goto(server.address())
        me.page.set_input_files("#pick-folder", str(tmp_path / "dogs"))
        me.says("#speed", "a frame")
        me.says("#title", "dogs")
        me.press("b")
        me.drag((215, 90), (220, 110), (225, 130))
        me.masks_are_saved(1, 5)
        me.press("f")
        me.says("#run-status", "Done: 4 frames forward")
        found = me.masks(tmp_path / "first")
        assert (found[0] == 1).sum() > 300
        np.testing.assert_array_equal(found[1:], library(frames, found[0], short_side=96)[1:])
        me.press("Home", "ArrowRight", "ArrowRight", "r")
        me.drag((200, 80), (240, 140))
        me.says("#saved", "Saved")
        me.press("Shift+F")
        me.says("#run-status", "Done: 2 frames backward")
        back = me.masks(tmp_path / "second")
        np.testing.assert_array_equal(back[1], library(frames[2::-1], back[2], short_side=96)[1])
        np.testing.assert_array_equal(back[0] == 1, found[0] == 1)  # drawn: it stays
        assert me.faults == []
