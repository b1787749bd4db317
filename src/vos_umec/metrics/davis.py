"""The DAVIS score as a torchmetrics metric."""

import json
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vos_umec.errors import MaskError
from vos_umec.metrics.sequence import Row, SequenceScorer, overall


class DavisScore(Metric):
    """J&F, and mean, recall and decay of J and F, over all objects of all sequences.

    `update` takes one whole sequence. `update_rows` takes the rows of a `SequenceScorer`, which scores frame by
    frame, so that no long video is in memory. Repeated rows of the same (sequence, object) are dropped: distributed
    samplers repeat sequences to fill the last batch. So the scores do not depend on the number of processes.

    The state is one uint8 tensor of JSON lines, one line per object. Names of any length and float64 values pass
    unchanged through the all-gather of every backend.

    Source:
        The semi-supervised task of DAVIS 2017, Pont-Tuset et al., arXiv 1704.00675.

    Example:
        >>> target = torch.zeros(5, 40, 60, dtype=torch.uint8)
        >>> target[:, 10:30, 10:30] = 1
        >>> metric = DavisScore()
        >>> metric.update(target, target, sequence="dog")
        >>> metric.update(target.roll(10, dims=2), target, sequence="cat")
        >>> metric.compute()["J-Mean"]
        tensor(0.6667)
        >>> [(row["sequence"], row["object"], round(row["J-Mean"], 2)) for row in metric.rows()]
        [('cat', 1, 0.33), ('dog', 1, 1.0)]
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    lines: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("lines", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor, sequence: str) -> None:
        """Add a whole sequence.

        Args:
            prediction: Object ids of all frames, (T, H, W) integer, 0 is background, T >= 3. The first and the last
                frame are not scored and may have any values.
            target: Ground truth ids of all frames, (T, H, W) integer, 255 is void.
            sequence: Name of the sequence.

        Raises:
            MaskError: The arguments are not (T, H, W) of one shape.
            DataError: There are fewer than three frames, or the first shows no object.
        """
        if prediction.ndim != 3 or prediction.shape != target.shape:
            raise MaskError(
                f"{sequence}: the prediction is {tuple(prediction.shape)}, the ground truth "
                f"{tuple(target.shape)}; expected two id maps (T, H, W) of one shape"
            )
        scorer = SequenceScorer(sequence)
        for frame, truth in zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True):
            scorer.update(frame, truth)
        self._append(scorer.rows())

    def update_rows(self, rows: list[Row]) -> None:
        """Add a sequence that was scored frame by frame: the rows of `SequenceScorer.rows`."""
        # torchmetrics does this around `update`, and around no other method.
        self._computed = None
        self._update_count += 1
        self._append(rows)

    def compute(self) -> dict[str, Tensor]:
        """Scores over all objects.

        Returns:
            The seven `FIGURES` as fractions, 0-dim float32; NaN before the first update.
        """
        figures = overall(self._unique_rows())
        return {
            name: torch.tensor(value, dtype=torch.float32, device=self.device) for name, value in figures.items()
        }

    def rows(self) -> list[Row]:
        """Scores of every object, gathered from all processes. Like `compute`, call it on each of them.

        Returns:
            Rows with `sequence`, `object` and the seven `FIGURES`, sorted by sequence and object.
        """
        if self._is_synced:
            return self._unique_rows()
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return self._unique_rows()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes; see `torchmetrics.Metric.sync`."""
        if not len(self.lines):
            # A process without a sequence must send the same type as the others; torchmetrics would send floats.
            self.lines = [torch.empty(0, dtype=torch.uint8, device=self.device)]
        super().sync(*args, **kwargs)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the rows of another metric; see `torchmetrics.Metric.merge_state`."""
        self._computed = None  # torchmetrics would keep the scores computed before the merge
        super().merge_state(incoming_state)

    def _append(self, rows: list[Row]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.lines.append(torch.tensor(list(text.encode("ascii")), dtype=torch.uint8, device=self.device))

    def _unique_rows(self) -> list[Row]:
        """The first row of each (sequence, object), sorted, so that sums are equal in every process."""
        if not len(self.lines):
            return []
        state = dim_zero_cat(self.lines).to(torch.uint8)  # (bytes,); set_dtype casts states to floats
        text = bytes(state.tolist()).decode("ascii")
        unique: dict[tuple[str, int], Row] = {}
        for row in map(json.loads, text.splitlines()):
            unique.setdefault((row["sequence"], row["object"]), row)
        return [unique[key] for key in sorted(unique)]
