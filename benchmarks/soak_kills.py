"""Kills: training at random moments of a step, a refresh, the swap of a generation, a checkpoint; other commands.

Each killed training is resumed, and must end with the weights of the one that was never killed, bit for bit. After
each kill every file that a command would read again must be whole.
"""

import inspect
import time
from collections import Counter
from pathlib import Path
from shutil import rmtree

import numpy as np
from soak_row import Row
from soak_runs import SMALL, Fault, broken_files, contents, make_data, run_command, same_weights

LEAST, MOST = 5, 40
"""Kills of training, however long they take, and where there is time."""


def run(seed: int, minutes: float, folder: Path) -> list[Row]:
    """Kill a training up to 40 times, and five other commands a few times each.

    Args:
        seed: Seed of the moments.
        minutes: Time for it all; with less than about eight there are fewer kills, at least 5.
        folder: An empty folder to work in.
    """
    start = time.monotonic()
    data = make_data(folder / "data", seed)
    training = kill_training(seed, start + 40 * minutes, folder / "training", data)
    return [training, *kill_commands(seed, start + 60 * minutes, folder / "commands", data)]


# --- training -----------------------------------------------------------------------------------------------------


def fit_words(data: Path, epochs: int = 5) -> list[str]:
    """A small training with a checkpoint after each step, and pseudo masks before every epoch but the first."""
    keep = "{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 1, filename: latest}}"
    sizes = {"data.short_side": 48, "data.crop": 32, "data.batch_size": 4, "data.clips_per_video": 4}
    sizes |= {"data.clip_length": 3, "data.gap": 1, "data.num_workers": 1, "data.copy_paste": 0.5}
    sizes |= {"refresh.warmup_epochs": 1, "refresh.every_n_epochs": 1, "refresh.short_side": 48}
    sizes |= {"refresh.frames_per_video": 6, "refresh.clusters": 3, "refresh.pictures": 0}
    return [
        "fit", "--config=configs/folder.yaml", f"--data.root={data / 'JPEGImages'}", *SMALL,
        f"--trainer.callbacks=[{keep}]", "--trainer.enable_model_summary=false", f"--trainer.max_epochs={epochs}",
        *(f"--{name}={value}" for name, value in sizes.items()),
    ]  # fmt: skip


def draw_moment(rng: np.random.Generator) -> tuple[str, Fault]:
    """A moment of a training, and what part of it that is."""
    some, soon = int(rng.integers(1, 4)), float(rng.uniform(0.0005, 0.01))
    moments = {
        "start": Fault(delay=float(rng.uniform(0.05, 2.5))),
        "step": Fault("os.rename", r"\.ckpt", some, delay=float(rng.uniform(0.01, 0.3))),
        "refresh": Fault("open", r"\.npz\..*tmp", some, delay=soon),
        "swap": [
            Fault("os.rename", r"generation_\d+\.tmp"),  # before it
            Fault("os.rename", r"manifest\.json"),  # between the two renames
            Fault("os.rename", r"manifest\.json", delay=soon),  # while old generations are deleted
        ][int(rng.integers(3))],
        "checkpoint": [
            Fault("open", r"\.ckpt\..*tmp", some, delay=soon),  # half written
            Fault("os.rename", r"\.ckpt", some),  # written, not yet in its place
        ][int(rng.integers(2))],
    }
    name = list(moments)[int(rng.integers(len(moments)))]
    return name, moments[name]


def last_weights(place: Path) -> Path:
    """The newest checkpoint of all runs in a folder."""
    return max(place.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)


def kill_training(seed: int, end: float, folder: Path, data: Path) -> Row:
    """Kill and resume a training again and again; each time that it comes to its end, begin anew."""
    rng, words = np.random.default_rng(seed), fit_words(data)
    whole, place = folder / "whole", folder / "killed"
    whole.mkdir(parents=True)
    done = run_command(words, whole)
    if done.code != 0:
        raise RuntimeError(f"the training itself fails: {done.output[-500:]}")
    kills: Counter[str] = Counter()
    unreadable, different, errors, finished, files = 0, 0, 0, 0, 0
    place.mkdir()
    while True:
        moment, fault = draw_moment(rng)
        enough = kills.total() >= (LEAST if time.monotonic() > end else MOST)
        resumed = any(place.rglob("*.ckpt"))
        done = run_command([*words, *["--ckpt_path=last"] * resumed], place, None if enough else fault)
        files += sum(1 for path in place.rglob("*") if path.is_file())
        unreadable += len(broken_files(place))
        if done.code == -9:
            kills[moment] += 1
            continue
        finished += 1
        if done.code != 0:
            errors += 1
            print(f"after {kills.total()} kills: {done.output[-600:]}")
        elif not same_weights(last_weights(whole), last_weights(place)):
            different += 1
        if enough:
            break
        rmtree(place)
        place.mkdir()
    lost = unreadable + different + errors
    where = ", ".join(f"{number} {moment}" for moment, number in sorted(kills.items()))
    figures = (
        f"{finished} trainings ended, {different} with other weights; {unreadable} of {files} files unreadable"
    )
    return Row("kills of training", kills.total(), kills.total() - lost, lost, f"{where}; {figures}")


# --- other commands -----------------------------------------------------------------------------------------------


def commands(data: Path) -> dict[str, tuple[list[str], str]]:
    """The other commands: their words, and a pattern of the files that each leaves in its folder."""
    masks = data / "Annotations"
    segment = ["segment", data / "JPEGImages" / "v0", "--mask", masks / "v0" / "00000.png", "--out", "out"]
    predict = ["predict", "--config=configs/davis17.yaml", f"--data.root={data}", "--model.network=tiny", *SMALL]
    return {
        "segment": ([*map(str, segment), "--short_side=64", "--rounds=1"], "out/masks/*.png"),
        "predict": (predict, "runs/*/*/predictions/*/*.png"),
        "prepare": (["prepare", f"{data / 'JPEGImages'}", "--out=copy", "--workers=1"], "copy/*/*.jpg"),
        "evaluate": (
            ["evaluate", f"{masks}", f"--root={data}", "--workers=1", "--json=scores.json"],
            "scores.json",
        ),
        "submission": (
            ["submission", f"{masks}", "--dataset=davis17-test-dev", f"--root={data}", "--out=results.zip"],
            "results.zip",
        ),
    }


def resumable(words: list[str]) -> list[str]:
    """The words with which an interrupted command is started again."""
    from vos_umec.cli import segment

    return (
        [*words, "--resume"]
        if words[0] == "segment" and "resume" in inspect.signature(segment.run).parameters
        else words
    )


def results(place: Path, pattern: str) -> dict[str, bytes]:
    """What a command has left, without the number of its run."""
    return {name.replace("version_1", "version_0"): data for name, data in contents(place, pattern).items()}


def kill_commands(seed: int, end: float, folder: Path, data: Path) -> list[Row]:
    """Kill each of the other commands a few times, look at what is there, and let it come to its end."""
    rng, rows = np.random.default_rng(seed), []
    for name, (words, pattern) in commands(data).items():
        whole = folder / f"{name}_whole"
        whole.mkdir(parents=True)
        done = run_command(words, whole)
        expected = results(whole, pattern)
        if done.code != 0 or not expected:
            raise RuntimeError(f"{name} itself fails: {done.output[-500:]}")
        kills = survived = 0
        seconds = done.seconds
        for number in range(8):
            if number > 1 and time.monotonic() > end:
                break
            place = folder / f"{name}_{number}"
            place.mkdir()
            suffix = pattern.rpartition(".")[2]
            event = ("open", "os.rename")[int(rng.integers(2))]
            count, delay = int(rng.integers(1, min(len(expected), 4) + 1)), float(rng.choice([0.0, 0.001, 0.005]))
            fault = Fault(event, rf"\.{suffix}\b", count, delay)
            if number % 2:
                fault = Fault(delay=float(rng.uniform(0.05, seconds)))
            killed = run_command(words, place, fault)
            kills += killed.code == -9
            left = results(place, pattern)
            whole_files = not broken_files(place) and all(expected.get(key) == value for key, value in left.items())
            again = run_command(resumable(words), place)
            good = whole_files and again.code == 0 and results(place, pattern) == expected
            survived += good and killed.code == -9
            if not good:
                print(f"{name}, kill {number}: whole {whole_files}, then {again.code}: {again.output[-500:]}")
                kills += killed.code != -9
            rmtree(place)
        rows.append(Row(f"kills of {name}", kills, survived, kills - survived, f"{len(expected)} files each time"))
    return rows
