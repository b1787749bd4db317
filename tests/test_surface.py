"""The public names and the order of the rooms, held against checked-in lists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vos_umec

SURFACE = [
    "ColorizationObjective",
    "CorrespondenceObjective",
    "CycleConsistencyObjective",
    "DavisDataModule",
    "DavisScore",
    "DenseContrastObjective",
    "EncodedClip",
    "EquivarianceObjective",
    "FrameSimilarityObjective",
    "GeometricTransform",
    "PhotometricObjective",
    "PropagationNetwork",
    "PseudoMaskRefresh",
    "SpaceTimeClusterer",
    "SyntheticDataModule",
    "SyntheticVOS",
    "TimeBudget",
    "TimmEncoder",
    "TrunkEncoder",
    "UMEC",
    "UMECModule",
    "VideoFolderDataModule",
    "VideoSegmenter",
    "VosUmecError",
    "YouTubeVOSDataModule",
    "YouTubeVOSPredictDataModule",
    "load_network",
    "load_published",
    "load_segmenter",
    "build_network",
    "open_source",
]
ROOMS = [
    "errors",
    "shipped",
    "io",
    "viz",
    "data",
    "models",
    "objectives",
    "clustering",
    "metrics",
    "inference",
    "training",
    "cli",
]  # each imports only from those before it
SOURCES = Path(vos_umec.__file__).parent


def test_the_surface_is_the_checked_in_one():
    assert dir(vos_umec) == sorted([*SURFACE, "__version__"])
    assert re.fullmatch(r"\d+\.\d+.*", vos_umec.__version__)
    for name in SURFACE:
        assert getattr(vos_umec, name).__name__ == name
    with pytest.raises(AttributeError, match="UMECX"):
        _ = vos_umec.UMECX


def _imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda p: p.relative_to(SOURCES).as_posix())
def test_rooms_import_one_way_and_lightning_stays_in_its_rooms(path):
    place = path.relative_to(SOURCES)
    if place.name == "__init__.py" and len(place.parts) == 1:
        return  # the surface names everything
    room = place.parts[0].removesuffix(".py")
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "vos_umec" and len(parts) > 1:
            assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{place} imports {name}"
        if parts[0] == "pytorch_lightning":
            apart = ("data/modules.py", "data/evaluation_modules.py")
            assert room in ("training", "cli") or place.as_posix() in apart, f"{place} imports {name}"
        assert parts[0] != "lightning", f"{place} mixes lightning with pytorch_lightning"


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
        ("from vos_umec import VideoSegmenter, EquivarianceObjective, SpaceTimeClusterer", "pytorch_lightning"),
    ],
)
def test_light_things_load_nothing_heavy(statement, absent):
    code = f"{statement}\nimport sys\nassert {absent!r} not in sys.modules, 'loaded'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
