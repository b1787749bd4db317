"""The picture of an evaluation's results."""

import numpy as np
from PIL import Image

from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.io.masks import read_mask
from vos_umec.training.evaluation import _MOST, ResultSheet
from vos_umec.viz.overlays import overlay


def test_one_frame_of_each_sequence_late_in_it_with_the_truth_first(tmp_path):
    video = SyntheticVOS(tmp_path, train_videos=1, val_videos=1, frames=8, size=(200, 400))
    video.prepare()
    (sequence,) = video.val_sequences()
    sheet = ResultSheet()
    index = sheet.moment(sequence)
    assert index == 6
    nothing = np.zeros((200, 400), np.uint8)
    sheet.add(
        sequence, index, {"label_propagation": nothing, "umec": nothing}, {"label_propagation": 0.1, "umec": 0}
    )
    picture = np.asarray(Image.open(sheet.save(tmp_path / "run" / "results.png")))
    assert picture.shape[1] == 1200
    frame = sequence.source().read([6])[0]
    truth = overlay(frame, read_mask(sequence.annotations[6]))
    for column, whole in enumerate((truth, frame, frame)):  # below the text, and without the cells' rims
        left = 4 + column * 398
        cell = picture[60:190, left + 20 : left + 370].astype(float)
        shown = whole[56:188, 20:376].astype(float)
        assert abs(cell.mean((0, 1)) - shown.mean((0, 1))).max() < 3
    assert abs(truth[56:188, 20:376].astype(float) - frame[56:188, 20:376]).mean() > 1


def test_a_sheet_is_full_one_day(tmp_path):
    video = SyntheticVOS(tmp_path, train_videos=1, val_videos=1, frames=3, size=(32, 48))
    video.prepare()
    (sequence,) = video.val_sequences()
    sheet = ResultSheet()
    for _ in range(_MOST):
        sheet.add(sequence, 2, {}, {})
    assert sheet.moment(sequence) is None
