"""A set whose trainings are a line of Python, so that a test of their order costs nothing."""

import sys
from pathlib import Path
from typing import Any

import yaml

from plan import Setting, plan_runs, plan_setting

BASE = {
    "trainer": {"logger": {"class_path": "CSVLogger"}, "callbacks": [{"class_path": "x.ModelCheckpoint"}]},
    "model": {
        "class_path": "M",
        "init_args": {"rate": 0.1, "evaluation": {"segmenter": {"rounds": 3, "references": 20}}},
    },
    "data": {"class_path": "D", "init_args": {"root": "videos", "val_root": "davis"}},
    "refresh": {"clusters": 5},
}
ROUNDS = {"model": {"class_path": "M", "init_args": {"evaluation": {"segmenter": {"rounds": 0}}}}}

# Trains one epoch each time: prints how it was started, writes a checkpoint, fails where the cell says so.
_TRAINING = """
import pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
checkpoint = pathlib.Path(config["trainer"]["callbacks"][0]["init_args"]["dirpath"], "last.ckpt")
print("epoch after", sys.argv[2:], flush=True)
rate = config["model"]["init_args"]["rate"]
if rate < 0:
    print("vos-umec: error: the rate is below 0", file=sys.stderr)
    sys.exit(1)
checkpoint.parent.mkdir(parents=True, exist_ok=True)
checkpoint.write_text("weights")
if rate > 1 and "--ckpt_path" not in sys.argv:
    import os
    os.kill(os.getpid(), 9)
"""


def make_setting(folder: Path, base: dict[str, Any] = BASE, extra: tuple[str, ...] = ()) -> Setting:
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(base))
    return plan_setting([path], None, extra, folder / "out")


def make_runs(setting: Setting, cells: dict[str, dict[str, Any]], seeds=(0,)):
    files = []
    for name, changes in cells.items():
        files.append(setting.out.parent / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(changes))
    return plan_runs(setting, files, seeds)


def toy_command(run) -> list[str]:
    resume = ["--ckpt_path", str(run.checkpoint)] if run.checkpoint.is_file() else []
    return [sys.executable, "-c", _TRAINING, str(run.training / "config.yaml"), *resume]


def scores(whole: float, propagation: float = 0.5, **sequences: float) -> dict[str, Any]:
    def figures(value: float) -> dict[str, Any]:
        return {"J&F": value, "J": value + 0.1, "F": value - 0.1, "sequences": sequences or {"dog": value}}

    methods = {"umec": figures(whole), "label_propagation": figures(propagation)}
    return {"minutes": 10.0, "frames_per_second": 2.0, "scores": methods}
