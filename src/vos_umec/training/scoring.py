"""Validation, test and prediction of a module with a network."""

from pathlib import Path
from typing import cast

import torch
from pytorch_lightning import LightningModule

from vos_umec.data.sequences import VideoSequence
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import write_mask
from vos_umec.metrics.results import print_table
from vos_umec.models.umec import PropagationNetwork
from vos_umec.training.evaluation import WHOLE, SequenceEvaluation, save_scores, score_table


class ScoringModule(LightningModule):
    """Segments and scores whole annotated sequences, `VideoSequence`s, with the `network` that a subclass builds.

    Its hyperparameters have the read-out as "segmenter", and whether `test` scores baselines as "baselines".

    Attributes:
        network: The network.
        written: What `test` and `predict` left.
    """

    network: PropagationNetwork
    written: Path | None = None

    def on_validation_epoch_start(self) -> None:
        """Start a fresh score."""
        self._evaluation = SequenceEvaluation(self.network, self.hparams["segmenter"] or {}, baselines=False)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # here and below: it reads and writes files
    def validation_step(self, batch: VideoSequence, batch_idx: int) -> None:
        """Segment and score one annotated sequence."""
        self._evaluation.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log J&F under a name that says which split it is of; `validation.png` in the run's folder shows it."""
        self._log_scores(self._evaluation)
        self._evaluation.sheet.save(self._folder() / "validation.png")

    def on_test_epoch_start(self) -> None:
        """Start a fresh score, with the baselines beside it."""
        self._evaluation = SequenceEvaluation(
            self.network, self.hparams["segmenter"] or {}, baselines=self.hparams["baselines"]
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def test_step(self, batch: VideoSequence, batch_idx: int) -> None:
        """Segment and score one annotated sequence."""
        self._evaluation.update(batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores, print them by object, and write `results.png` and `scores/METHOD.json`."""
        self._log_scores(self._evaluation)
        rows, folder = self._evaluation.rows(), self._folder()  # on every rank, as the next: they gather
        self.written = self._evaluation.sheet.save(folder / "results.png")
        if self.trainer.is_global_zero:
            print_table(score_table(rows))
            save_scores(rows, folder / "scores")

    def on_predict_start(self) -> None:
        """Ask where to write once, on every rank: they gather, and may have different numbers of sequences."""
        self.written = self._folder() / "predictions"

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def predict_step(self, batch: VideoSequence, batch_idx: int) -> None:
        """Write one sequence's masks to `predictions/<sequence>/<frame>.png` in the run's folder."""
        source = batch.source()
        segmenter = VideoSegmenter.from_protocol(self.network, **(self.hparams["segmenter"] or {}))
        folder = cast(Path, self.written) / batch.name
        for index, ids in segmenter.segment(source, batch.prompt_masks()):
            if not batch.required or index in batch.required:
                write_mask(folder / f"{source.names[index]}.png", ids)

    def _folder(self) -> Path:
        """The run's folder. Ask on every rank: the first one tells the others, and waits for them."""
        return Path(self.trainer.log_dir or self.trainer.default_root_dir)

    def _log_scores(self, evaluation: SequenceEvaluation) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        split = getattr(datamodule, "split_name", "val")
        for method, scores in evaluation.compute().items():
            places = [split] if method == evaluation.main else []
            if method != WHOLE:
                places.append(f"{split}/{method}")
            for place in places:
                self.log_dict({f"{place}/{name}": value for name, value in scores.items()}, rank_zero_only=True)
