"""Makes `docs/pictures/app.webp`: the app in a browser, on the made video of `teaser.py`.

    python docs/pictures/app.py    # needs playwright and the system's Chromium

Two objects are drawn as polygons around their true masks and followed at short side 240. The picture shows a later
frame.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

import vos_umec

SIZE = (216, 384)
FRAMES = 40
SHOWN = 24
WINDOW = {"width": 1280, "height": 780}
PATIENCE = 600_000  # milliseconds


def corners(mask: np.ndarray, number: int = 28) -> list[tuple[float, float]]:
    """The farthest pixel of a mask (H, W) in each direction from its middle: x and y of a polygon around it."""
    y, x = np.nonzero(mask)
    dy, dx = y - y.mean(), x - x.mean()
    sector = ((np.arctan2(dy, dx) + np.pi) / (2 * np.pi) * number).astype(int) % number
    far = [max(np.flatnonzero(sector == s), key=lambda i: dy[i] ** 2 + dx[i] ** 2) for s in np.unique(sector)]
    return [(float(x[i]), float(y[i])) for i in far]


def draw(page: Page, polygons: list[list[tuple[float, float]]]) -> None:
    """Draw a polygon for each object."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None  # noqa: S101
    scale = min(box["width"] / SIZE[1], box["height"] / SIZE[0])
    left, top = box["x"] + (box["width"] - SIZE[1] * scale) / 2, box["y"] + (box["height"] - SIZE[0] * scale) / 2
    for number, polygon in enumerate(polygons):
        if number:
            page.keyboard.press("n")
        page.keyboard.press("p")
        for x, y in polygon:
            page.mouse.click(left + x * scale, top + y * scale, delay=20)
            page.wait_for_timeout(400)  # two clicks at once would close it
        page.keyboard.press("Enter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("app.webp"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = vos_umec.SyntheticVOS(
            folder, train_videos=1, val_videos=1, frames=FRAMES, size=SIZE, seed=0, objects=(2, 3)
        )
        made.prepare()
        (sequence,) = made.val_sequences()
        ids = vos_umec.read_mask(sequence.annotations[0])
        words = ["app", sequence.path, "--short-side", 240, "--browser", "false", "--port", 0, "--sessions", folder]
        command = [sys.executable, "-m", "vos_umec.cli.main", *map(str, words)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app, sync_playwright() as player:
            address = next(found[0] for line in app.stdout or () if (found := re.search(r"http://\S+", line)))
            browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport=WINDOW, color_scheme="light")
            page.goto(address)
            expect(page.locator("#speed")).to_contain_text("a frame", timeout=PATIENCE)
            draw(page, [corners(ids == i) for i in np.unique(ids) if i])
            page.keyboard.press("f")
            expect(page.locator("#run-status")).to_contain_text("Done", timeout=PATIENCE)
            for key in ("b", "Home"):
                page.keyboard.press(key)
            for _ in range(SHOWN):
                page.keyboard.press("ArrowRight")
                page.wait_for_timeout(100)
            page.mouse.move(5, 5)
            page.wait_for_timeout(1000)
            shot = Path(folder, "app.png")
            page.screenshot(path=shot)
            browser.close()
            app.terminate()
        Image.open(shot).save(arguments.out, quality=70, method=6)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
