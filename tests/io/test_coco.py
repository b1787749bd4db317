"""COCO's content for the masks of a video."""

import numpy as np

from vos_umec.io.coco import coco_video
from vos_umec.io.rle import decode_rle


def test_every_mask_comes_back_and_every_box_is_tight():
    rng = np.random.default_rng(0)
    masks = rng.choice(np.array([0, 0, 0, 1, 3, 255], np.uint8), (2, 9, 13))
    masks[1][masks[1] == 3] = 0
    content = coco_video([(4, "a.png", masks[0]), (7, "b.png", masks[1])], {1: "cat"})
    assert [image["id"] for image in content["images"]] == [4, 7]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 3, "name": "object 3"}]
    found = {(a["image_id"], a["track_id"]): a for a in content["annotations"]}
    assert set(found) == {(4, 1), (4, 3), (7, 1)}
    for (image, number), annotation in found.items():
        where = masks[0 if image == 4 else 1] == number
        np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), where)
        ys, xs = np.nonzero(where)
        assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert annotation["area"] == len(xs)
