"""The processes that `ablate.py` starts: one trains a run, another scores its checkpoint.

`worker.py fit --config FILE ...` is `vos-umec fit` with this folder on the path, where `RepeatableEpochs` is.
`worker.py score REQUEST` calls `score_checkpoint` with the arguments in REQUEST, a JSON mapping.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from plan import Config, fingerprint
from summary import write_text
from vos_umec.cli.main import main as vos_umec
from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import VideoSequence
from vos_umec.device import pick_device
from vos_umec.errors import VosUmecError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.metrics.sequence import Row, overall
from vos_umec.models.umec import PropagationNetwork
from vos_umec.training.checkpoint import load_module
from vos_umec.training.evaluation import COPY, PROPAGATION, WHOLE, SequenceEvaluation

_TIMED_FRAMES = 200
"""Frames over which the speed is measured, at least: two or three sequences of DAVIS."""


class RepeatableEpochs(Callback):
    """Make a run that was killed and resumed end as one that was not.

    A checkpoint holds weights, optimizer and schedules, but not the state of the random generators. So each epoch
    seeds the generators anew, from the seed of the run, the number of the epoch and the rank. This needs a
    checkpoint at the end of each epoch: an epoch that is resumed in its middle repeats the draws of its start.

    The checkpoint also counts the seconds of training, including those before an interruption.

    Args:
        seed: Seed of the run.

    Example:
        >>> RepeatableEpochs(seed=3).state_dict()
        {'seconds': 0.0}
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._seconds = 0.0
        self._since: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed torch's generators for this epoch; the draws of the clips depend on the epoch already."""
        state = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))

    def state_dict(self) -> dict[str, Any]:
        """Seconds of training."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return {"seconds": self._seconds + running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue to count."""
        self._seconds = state_dict["seconds"]


def score_checkpoint(checkpoint: str, segmenter: Config, davis: str, split: str, device: str, out: str) -> None:
    """Score a checkpoint as `vos-umec test` does, and write `scores.json`.

    It holds "minutes" of training, "frames_per_second" of inference (see `measure_speed`), and under "scores" for
    each method ("umec", "label_propagation" and "copy_first_mask") the fractions "J&F", "J", "F", and "sequences",
    which is J&F by sequence. The figures of the two baselines are kept beside the checkpoint, for other runs of the
    same weights.

    Args:
        checkpoint: File that a training with `RepeatableEpochs` wrote.
        segmenter: Arguments of `VideoSegmenter`.
        davis: DAVIS root.
        split: Its list of sequences.
        device: Where to compute: "auto", "cpu", "cuda", ...
        out: Folder for `scores.json` and `results.png`. There is no picture where the baselines' figures are known
            and the model is label propagation itself.

    Raises:
        VosUmecError: The checkpoint, the settings or the data cannot be used.
    """
    network = load_module(checkpoint).network.to(pick_device(device))
    # The baselines use neither rounds nor refined masks, so that cells which differ in these share their figures.
    baseline = {**segmenter, "rounds": 0, "memory_masks": "final"}
    kept = Path(checkpoint).with_name(f"baselines_{fingerprint([baseline, davis, split])}.json")
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    evaluation = SequenceEvaluation(network, segmenter, baselines=not known)
    scores = dict(known)
    if evaluation.main not in known:
        for sequence in davis_sequences(davis, split):
            evaluation.update(sequence)
        scores |= {method: _figures(rows) for method, rows in evaluation.rows().items()}
        evaluation.sheet.save(Path(out) / "results.png")
    if not known:
        write_text(kept, json.dumps({name: scores[name] for name in (COPY, PROPAGATION)}))
    scores.setdefault(WHOLE, scores[PROPAGATION])  # without refinement the model is label propagation
    callbacks = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    minutes = callbacks[RepeatableEpochs().state_key]["seconds"] / 60
    speed = measure_speed(network, segmenter, davis_sequences(davis, split))
    result = {"minutes": minutes, "frames_per_second": speed, "scores": scores}
    write_text(Path(out) / "scores.json", json.dumps(result))


def measure_speed(network: PropagationNetwork, segmenter: Config, sequences: Iterable[VideoSequence]) -> float:
    """Frames a second of segmenting alone: frames are read before, and masks are not written.

    Whole sequences count, in their order, until there are 200 frames. This is a pass of its own, since in scoring
    the whole model and label propagation share the search for the best cells.

    Args:
        network: The network.
        segmenter: Arguments of `VideoSegmenter`.
        sequences: Sequences with their reference masks, at least one.
    """
    engine = VideoSegmenter.from_protocol(network, **segmenter)
    frames, seconds = 0, 0.0
    for sequence in sequences:
        source, prompts = sequence.source(), sequence.prompt_masks()
        if not frames:  # what is slow for the first time, such as loading kernels, does not count
            for index in range(min(3, len(source))):
                engine.step(source.read([index])[0], prompts.get(index))
        engine.reset()
        for index in range(len(source)):
            frame = source.read([index])[0]  # (H, W, 3)
            start = time.perf_counter()
            engine.step(frame, prompts.get(index))  # its result is on the host, so the device has finished
            seconds += time.perf_counter() - start
        frames += len(source)
        if frames >= _TIMED_FRAMES:
            break
    return frames / seconds


def _figures(rows: list[Row]) -> dict[str, Any]:
    """Means over all objects, and J&F by sequence."""
    by_sequence: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_sequence[str(row["sequence"])].append(float(row["J&F"]))
    mean = overall(rows)
    sequences = {name: float(np.mean(values)) for name, values in by_sequence.items()}
    return {"J&F": mean["J&F"], "J": mean["J-Mean"], "F": mean["F-Mean"], "sequences": sequences}


def main(arguments: Sequence[str]) -> int:
    """Run one process and give its exit status."""
    if arguments[0] == "fit":
        return vos_umec(arguments)
    sys.path.append(str(Path.cwd()))  # for the user's own modules, as in training
    try:
        score_checkpoint(**json.loads(arguments[1]))
    except VosUmecError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
