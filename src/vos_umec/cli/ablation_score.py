"""The process that scores one run of `vos-umec ablate`: `python -m vos_umec.cli.ablation_score REQUEST`."""

import json
import sys
from pathlib import Path

from vos_umec.device import pick_device
from vos_umec.errors import VosUmecError
from vos_umec.io.atomic import atomic_path
from vos_umec.training.ablation.score import score_checkpoint


def main(request: str) -> int:
    """Score a checkpoint and write the figures as JSON.

    Args:
        request: A JSON list: checkpoint, settings of the segmenter, DAVIS root, split, device, file to write; the
            picture of the results goes beside it.

    Returns:
        The exit status: 0, or 1 for an error told in one line.
    """
    checkpoint, segmenter, davis, split, device, answer = json.loads(request)
    sys.path.insert(0, str(Path.cwd()))  # as in training, for the user's own modules
    try:
        pictures = Path(answer).parent
        scored = score_checkpoint(Path(checkpoint), segmenter, davis, split, pick_device(device), pictures)
    except VosUmecError as error:
        print(f"vos-umec: error: {error}", file=sys.stderr)
        return 1
    with atomic_path(answer) as temporary:
        temporary.write_text(json.dumps(scored), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
