"""The package on a pretended CUDA device: all of it runs there, and how often the host waits and what it launches.

`python tests/pretend/pretend.py --places` prints what is counted here, with the lines that cause it.
"""

import pytest

import pretend

TRAINING_WAITS = 3
"""Most waits of a training step: clips with objects, in fp16 the gradient scaler's, and a look at the losses of the
last second, which on this slow device is each step's."""
SIDE = 96
"""Short side of frames, quick on a CPU. The command takes 480p, where the read-out has more bands of rows."""
FRAME_WAITS, FRAME_LAUNCHES = 1, 550
"""Most of both for a frame of resnet18. The host waits for the ids that it returns."""
SHIPPED_WAITS, SHIPPED_LAUNCHES = 4, 750
"""The same for the shipped model. It removes outliers, in as many rounds as their shapes need: a wait each.
Its decoder takes the evidence of the read-out."""
PART_WAITS = {"VideoSegmenter": 1, "SegmentationObjective": 1, "encode_frames": 4, "DavisScore": 12}
"""Most waits of parts, by what their names hold; others have none, but for outliers as above."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(pretend.why_not() is not None, reason=pretend.why_not() or ""),
]


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    return pretend.build(tmp_path_factory.mktemp("pretend"))


def failures(rows):
    return "\n".join(f"{row['name']}: {row['error']}" for row in rows if row["error"])


def held(row, waits, launches=None):
    """What is wrong with the counts of a row; None if nothing is."""
    if row["waits"] <= waits and (launches is None or row["launches"] <= launches):
        return None
    places = "; ".join(f"{count} x {place}" for place, count in row["waited"])
    counts = f"{row['waits']} waits (most {waits}), {row['launches']} launches (most {launches})"
    return f"{row['name']}: {counts}: {places}"


def test_the_device_counts_and_refuses_what_cuda_does(libraries):
    rows = {row["name"]: row for row in pretend.run("rules", libraries)}
    for name, row in rows.items():
        kind, _, what = name.partition(": ")
        assert row["error"] == (what if kind == "refused" else None), name
        assert (row["waits"] > 0) == (kind == "waits"), name
    assert rows["free: slice"]["launches"] == 0
    assert rows["free: masked by where"]["launches"] == 2  # it makes a tensor of the number


def test_every_part_runs_and_waits_no_more_than_it_must(libraries):
    rows = pretend.run("parts", libraries)
    assert not failures(rows)
    for row in rows:
        most = sum(waits for name, waits in PART_WAITS.items() if name in row["name"])
        most = SHIPPED_WAITS if "outliers" in row["name"] else most
        assert (wrong := held(row, most)) is None, wrong


def test_a_life_cycle_runs_and_a_training_step_hardly_waits(libraries):
    """Fit with refreshes, resume, validate, test and predict; deterministic; on a GPU without bf16."""
    rows = pretend.run("training", libraries)
    assert not failures(rows)
    assert len(rows) == 6  # each training with and without L_seg
    for row in rows:
        assert (wrong := held(row, TRAINING_WAITS)) is None, wrong


def test_a_frame_of_video_is_few_launches(libraries):
    rows = pretend.run("frames", libraries, SIDE)
    assert not failures(rows)
    for row in rows:
        most = (SHIPPED_WAITS, SHIPPED_LAUNCHES) if "shipped" in row["name"] else (FRAME_WAITS, FRAME_LAUNCHES)
        assert (wrong := held(row, *most)) is None, wrong
