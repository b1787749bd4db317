import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from vos_umec.errors import DataError, MaskError
from vos_umec.metrics.davis import DavisScore
from vos_umec.metrics.sequence import FIGURES, SequenceScorer


def sequence(seed: int, T: int = 6, K: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocky random prediction and target, (T, H, W) int64."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, K + 1, (2, T, 4, 5), generator=generator)
    prediction, target = blocks.repeat_interleave(6, 2).repeat_interleave(6, 3)
    return prediction, target


def filled(*seeds: int, **kwargs) -> DavisScore:
    metric = DavisScore(**kwargs)
    for seed in seeds:
        metric.update(*sequence(seed), sequence=f"video {seed}")
    return metric


def figures(metric: DavisScore) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


def test_equals_the_scorer_and_pools_objects():
    metric = DavisScore()
    rows = []
    for seed, K in enumerate((1, 2, 3)):
        prediction, target = sequence(seed, K=K)
        metric.update(prediction, target, sequence=str(seed))
        scorer = SequenceScorer(str(seed))
        for frame, truth in zip(prediction.numpy(), target.numpy(), strict=True):
            scorer.update(frame, truth)
        rows += scorer.rows()
    assert metric.rows() == rows
    assert len(rows) == 6
    for name, value in metric.compute().items():
        assert value.shape == ()
        assert value.item() == pytest.approx(sum(row[name] for row in rows) / 6, abs=1e-6)
    assert list(metric.compute()) == list(FIGURES)


def test_rows_of_a_scorer_are_the_same_as_a_whole_sequence():
    prediction, target = sequence(3)
    scorer = SequenceScorer("video 3")
    for frame, truth in zip(prediction.numpy(), target.numpy(), strict=True):
        scorer.update(frame, truth)
    metric = filled(1)
    before = figures(metric)
    metric.update_rows(scorer.rows())
    assert metric.update_count == 2
    assert figures(metric) == figures(filled(1, 3)) != before
    metric.update_rows([])
    assert figures(metric) == figures(filled(1, 3))


def test_repeats_and_order_do_not_change_anything():
    assert figures(filled(0, 1, 2, 1, 0)) == figures(filled(2, 0, 1)) == figures(filled(0, 1, 2))
    assert filled(0, 1, 2, 1).rows() == filled(2, 1, 0).rows()


def test_the_same_object_id_in_two_sequences_is_two_objects():
    assert len(filled(0, 1).rows()) == 4


def test_odd_names_survive():
    metric = DavisScore()
    names = ["a" * 500, "été/犬\n2", 'quote "', "with space"]
    for seed, name in enumerate(names):
        metric.update(*sequence(seed), sequence=name)
    assert {row["sequence"] for row in metric.rows()} == set(names)


def test_pickle_clone_reset_and_hash():
    metric = filled(0, 1)
    expected = figures(metric)
    assert figures(pickle.loads(pickle.dumps(metric))) == expected
    clone = metric.clone()
    assert figures(clone) == expected
    clone.update(*sequence(2), sequence="video 2")
    assert figures(clone) == figures(filled(0, 1, 2))
    assert figures(metric) == expected
    assert hash(metric) != hash(clone)
    metric.reset()
    assert metric.rows() == []
    metric.update(*sequence(2), sequence="video 2")
    assert figures(metric) == figures(filled(2))


def test_merge_state():
    metric = filled(0, 1)
    figures(metric)  # what was computed before must not stay
    metric.merge_state(filled(1, 2))
    assert figures(metric) == figures(filled(0, 1, 2))
    metric.merge_state(DavisScore().metric_state)
    assert figures(metric) == figures(filled(0, 1, 2))


def test_forward_gives_the_figures_of_the_batch():
    metric = filled(0)
    batch = metric(*sequence(1), sequence="video 1")
    assert {name: value.item() for name, value in batch.items()} == figures(filled(1))
    assert figures(metric) == figures(filled(0, 1))


def test_state_is_not_saved_and_collections_work():
    metric = filled(0)
    assert metric.state_dict() == {}
    collection = MetricCollection({"davis": DavisScore()}, prefix="val/")
    collection.update(*sequence(0), sequence="video 0")
    assert collection.compute()["val/J&F"].item() == figures(metric)["J&F"]


def test_other_types_and_devices():
    metric = filled(0).set_dtype(torch.float64)
    assert figures(metric) == figures(filled(0))
    if torch.cuda.is_available():
        metric = DavisScore().to("cuda")
        metric.update(*(ids.cuda() for ids in sequence(0)), sequence="video 0")
        assert metric.compute()["J&F"].is_cuda
        assert figures(metric) == figures(filled(0))
    prediction, target = sequence(0)
    metric = DavisScore(compute_on_cpu=True)
    metric.update(prediction.to(torch.uint8), target.to(torch.int32), sequence="video 0")
    assert figures(metric) == figures(filled(0))


def test_before_the_first_update_the_figures_are_nan():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert all(value.isnan() for value in DavisScore().compute().values())


def test_refuses_bad_input():
    prediction, target = sequence(0)
    with pytest.raises(MaskError, match=r"dog: the prediction is \(6, 24, 30\), the ground truth \(5, 24, 30\)"):
        DavisScore().update(prediction, target[1:], "dog")
    with pytest.raises(MaskError, match="expected two id maps"):
        DavisScore().update(prediction[0], target[0], "dog")
    with pytest.raises(MaskError, match="float32"):
        DavisScore().update(prediction.float(), target, "dog")
    with pytest.raises(DataError, match="at least 3"):
        DavisScore().update(prediction[:2], target[:2], "dog")
