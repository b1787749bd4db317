"""The score of a checkpoint, by sequence, beside label propagation with the same encoder."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vos_umec.data.davis import davis_sequences
from vos_umec.inference.load import load_module
from vos_umec.io.atomic import atomic_path
from vos_umec.metrics.sequence import Row, overall
from vos_umec.training.ablation.plan import Config, fingerprint
from vos_umec.training.ablation.repeatable import RepeatableEpochs
from vos_umec.training.evaluation import COPY, PROPAGATION, WHOLE, SequenceEvaluation


def score_checkpoint(
    checkpoint: Path, segmenter: Config, davis: str, split: str, device: torch.device, pictures: Path
) -> dict[str, Any]:
    """Score as `vos-umec test` does, and keep what it prints.

    Args:
        checkpoint: Written with `RepeatableEpochs` among the callbacks, for the minutes; the baselines' figures are
            kept beside it, for other read-outs of the same weights.
        segmenter: Arguments of VideoSegmenter.
        davis: DAVIS root.
        split: Its list of sequences.
        device: Where to compute.
        pictures: Folder for a picture of the results; none is made where the baselines' figures tell everything.

    Returns:
        "minutes" of training, and under "scores" by method ("umec", "label_propagation", "copy_first_mask") the
        fractions "J&F", "J", "F", and "sequences", J&F by sequence; plain values.

    Raises:
        VosUmecError: If the checkpoint, the settings or the data cannot be used.
    """
    module = load_module(checkpoint)
    network = module.network.to(device)
    # No round and no memory of masks changes the baselines: cells that differ in nothing else share them.
    alike = {**segmenter, "rounds": 0, "memory_masks": "final"}
    kept = checkpoint.parent / f"baselines_{fingerprint([alike, davis, split])}.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    evaluation = SequenceEvaluation(network, segmenter, baselines=not known)
    scores = dict(known)
    if evaluation.main not in known:
        for sequence in davis_sequences(davis, split):
            evaluation.update(sequence)
        scores |= {method: _figures(rows) for method, rows in evaluation.rows().items()}
        evaluation.sheet.save(pictures / "results.png")
    if not known:
        with atomic_path(kept) as temporary:
            temporary.write_text(json.dumps({name: scores[name] for name in (COPY, PROPAGATION)}), encoding="utf-8")
    scores.setdefault(WHOLE, scores[PROPAGATION])  # without a refinement round the model is its encoder
    callbacks = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    seconds = callbacks[RepeatableEpochs().state_key]["seconds"]
    return {"minutes": seconds / 60, "scores": scores}


def _figures(rows: list[Row]) -> dict[str, Any]:
    """The means over objects, and those of each sequence."""
    by_sequence: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_sequence[str(row["sequence"])].append(float(row["J&F"]))
    mean = overall(rows)
    return {
        "J&F": mean["J&F"],
        "J": mean["J-Mean"],
        "F": mean["F-Mean"],
        "sequences": {name: float(np.mean(values)) for name, values in by_sequence.items()},
    }
