"""The public names and the floors of the house, held against checked-in lists."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vos_umec

SOURCES = Path(vos_umec.__file__).parent
SURFACE = dict(
    line.split(": ", 1) for line in Path(__file__).with_name("surface.txt").read_text().splitlines() if line
)
FLOORS = [
    {"errors", "constants", "shipped", "distributed", "progress"},
    {"device"},
    {"io", "matching", "transforms"},
    {"viz", "data", "models"},
    {"objectives", "clustering", "metrics", "inference"},
    {"training"},
    {"app", "report"},
    {"cli"},
]  # a room imports from the floors below, and from itself
LIGHTNING = {"training", "cli", "data/datamodules.py", "data/evaluation_datamodules.py"}


@pytest.mark.parametrize("room", SURFACE)
def test_each_room_exports_the_names_of_the_list(room):
    module = importlib.import_module(room)
    assert sorted(name for name in dir(module) if not name.startswith("_")) == SURFACE[room].split()
    for name in SURFACE[room].split():
        assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match="UMECX"):
        _ = module.UMECX


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+.*", vos_umec.__version__)


def _imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_rooms_import_from_lower_floors_and_lightning_stays_in_its_rooms():
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    for path in sorted(SOURCES.rglob("*.py")):
        place = path.relative_to(SOURCES)
        room = place.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in _imports(path):
            top, *inner = name.split(".")
            if top == "vos_umec" and inner and inner[0] != room:
                assert floors[inner[0]] < floors[room], f"{place} imports {name}"
            if top == "pytorch_lightning":
                assert {room, place.as_posix()} & LIGHTNING, f"{place} imports {name}"
            assert top != "lightning", f"{place} mixes lightning with pytorch_lightning"


def test_no_file_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in SOURCES.rglob("*.py")}
    assert not {path: number for path, number in lines.items() if number > 400}


MASK = "import numpy as np; m = np.zeros((32, 32), np.uint8); m[8:20, 8:20] = 1\n"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vos_umec", "torch"),
        (
            "import importlib, pkgutil, vos_umec.io, vos_umec.metrics, vos_umec.viz\n"
            "for room in (vos_umec.io, vos_umec.metrics, vos_umec.viz):\n"
            "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
            "        if module.name != 'vos_umec.metrics.davis':\n"
            "            importlib.import_module(module.name)",
            "torch",
        ),
        ("from vos_umec.cli.main import main; main(['evaluate', 'no', '--root', 'no'])", "torch"),
        ("from vos_umec.cli.main import main; main(['report', 'no'])", "torch"),
        ("from vos_umec import VideoSegmenter, EquivarianceObjective, SpaceTimeClusterer", "pytorch_lightning"),
        (
            f"{MASK}import vos_umec; s = vos_umec.load_segmenter(short_side=32)\n"
            "s.step(np.zeros((32, 32, 3), np.uint8), m)",
            "pytorch_lightning",
        ),
        (
            f"{MASK}import pathlib, tempfile; from PIL import Image; from vos_umec.cli.main import main\n"
            "place = pathlib.Path(tempfile.mkdtemp()); (place / 'v').mkdir()\n"
            "for i in range(2): Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(place / 'v' / f'{i}.png')\n"
            "Image.fromarray(m).save(place / 'm.png')\n"
            "words = ['segment', place / 'v', '--mask', place / 'm.png', '--out', place / 'o', '--device', 'cpu']\n"
            "assert main([str(word) for word in words]) == 0",
            "pytorch_lightning",
        ),
    ],
)
def test_light_things_load_nothing_heavy(statement, absent):
    code = f"{statement}\nimport sys\nassert {absent!r} not in sys.modules, 'loaded'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_openmp_spins_shortly_unless_the_user_says_otherwise():
    code = "import vos_umec, os, sys; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    for given, expected in ((None, "1000"), ("7", "7")):
        environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
        environment |= {} if given is None else {"GOMP_SPINCOUNT": given}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=environment
        )
        assert done.stdout.strip() == expected, done.stderr
