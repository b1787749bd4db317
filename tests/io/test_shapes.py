"""Polygons, boxes and run lengths of LabelMe and COCO, and the frame that the name of a file speaks of."""

import base64
import json
import os
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from vos_umec.errors import ConfigError, MaskError
from vos_umec.io.frame_names import frame_index, frame_of_file
from vos_umec.io.rle import decode_rle, encode_rle
from vos_umec.io.shapes import read_shapes

SQUARE = [[10, 5], [30, 5], [30, 15], [10, 15]]


def labelme(*shapes, **more):
    made = [{"label": "dog", "shape_type": "polygon", "points": SQUARE, **shape} for shape in shapes]
    return {"shapes": made, "imagePath": "..\\frames\\00003.jpg", "imageHeight": 40, "imageWidth": 60, **more}


def coco(*annotations, images=1):
    return {
        "images": [{"id": i, "file_name": f"f/{i:05d}.jpg", "height": 40, "width": 60} for i in range(images)],
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [{"image_id": 0, "category_id": 7, **annotation} for annotation in annotations],
    }


def read(tmp_path, content):
    (tmp_path / "m.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_shapes(tmp_path / "m.json")


def filled(rows, columns, value=1):
    labels = np.zeros((40, 60), int)
    labels[slice(*rows), slice(*columns)] = value
    return labels


def test_labelme_polygons_boxes_circles_and_masks(tmp_path):
    mask = BytesIO()
    Image.fromarray(np.full((4, 5), 255, np.uint8)).save(mask, format="PNG")
    (image,) = read(
        tmp_path,
        labelme(
            {},
            {"shape_type": "rectangle", "points": [[50, 30], [40, 20]]},
            {"shape_type": "circle", "points": [[15, 28], [19, 28]], "label": "ball"},
            {
                "shape_type": "mask",
                "points": [[52, 2], [56, 5]],
                "mask": base64.b64encode(mask.getvalue()).decode(),
            },
        ),
    )
    assert image.frame == "00003"
    assert image.objects() == [1, 2, 3, 4]
    assert image.names == {1: "dog", 2: "dog", 3: "ball", 4: "dog"}
    np.testing.assert_array_equal(image.labels == 1, filled((5, 16), (10, 31)) > 0)
    np.testing.assert_array_equal(image.labels == 2, filled((20, 30), (40, 50)) > 0)
    assert abs((image.labels == 3).sum() - np.pi * 4.5**2) < 8
    np.testing.assert_array_equal(image.labels == 4, filled((2, 6), (52, 57)) > 0)
    assert "1 of the shapes are boxes" in image.notes[0]


def test_shapes_of_one_group_are_one_object_and_overlaps_are_told(tmp_path):
    far = [[40, 20], [50, 20], [50, 30]]
    (image,) = read(tmp_path, labelme({"group_id": 5}, {"group_id": 5, "points": far}, {"group_id": 6}))
    assert image.objects() == [1, 2]
    assert (image.labels[20:30, 40:50] == 1).any()
    assert "overlap in 231 pixels" in image.notes[0]


def test_coco_polygons_boxes_and_run_lengths(tmp_path):
    where = filled((30, 38), (2, 9)) > 0
    flat = [number for point in SQUARE for number in point]
    (image,) = read(
        tmp_path,
        coco(
            {"segmentation": [flat]}, {"bbox": [40, 20, 10, 10]}, {"segmentation": encode_rle(where), "iscrowd": 1}
        ),
    )
    assert image.frame == "00000"
    np.testing.assert_array_equal(image.labels == 1, filled((5, 16), (10, 31)) > 0)
    np.testing.assert_array_equal(image.labels == 2, filled((20, 30), (40, 50)) > 0)
    np.testing.assert_array_equal(image.labels == 3, where)


def test_coco_of_several_frames_needs_tracks(tmp_path):
    box = {"bbox": [1, 1, 5, 5]}
    with pytest.raises(MaskError, match="2 pictures have objects, and no `track_id`"):
        read(tmp_path, coco(box, {**box, "image_id": 1}, images=2))
    first, second = read(
        tmp_path,
        coco(
            {**box, "track_id": 4},
            {**box, "image_id": 1, "attributes": {"track_id": 9}},
            {"bbox": [20, 20, 5, 5], "image_id": 1, "track_id": 4},
            images=3,
        ),
    )
    assert (first.objects(), second.objects(), second.frame) == ([1], [1, 2], "00001")
    assert second.labels[22, 22] == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ("[1]", "m.json"),
        ({"version": 1}, "unknown kind"),
        (labelme(), "shows no object"),
        (labelme({"shape_type": "line"}), "type line"),
        (labelme({"points": [[1, 2]]}), "cannot be read"),
        (labelme({}, imageHeight=None), "cannot be read"),
        (labelme({}, imageHeight=10**9), "cannot be read"),
        (labelme({"points": [[90, 90], [95, 90], [95, 95]]}), "no pixel in the picture"),
        (coco({}), "no 'bbox'"),
        (coco({"segmentation": {"size": [40, 60], "counts": [7]}}), "add up to 7"),
        (coco({"segmentation": {"size": [4, 6], "counts": [4, 20]}}), "4, 6"),
        ("[" * 200_000, "recursion"),
        (labelme({"points": [[float("nan"), 1], [3, 4], [9, 9]]}), "a corner at nan"),
        (labelme({"points": [[1e300, 1], [3, 4], [9, 9]]}), "a corner at 1e"),
        (labelme({"shape_type": "rectangle", "points": [[0, 0], [float("inf"), 9]]}), "a corner at inf"),
        (labelme({"shape_type": "circle", "points": [[0, 0], [float("inf"), 9]]}), "a corner at inf"),
        (coco({"bbox": [1, 1, float("inf"), 5]}), "a corner at inf"),
        (coco({"segmentation": [[1, 1, 5, 1, 5]]}), "a polygon of 5 numbers"),
        (coco({"bbox": [1, 1, 5, 5], "image_id": 7}), "no picture has the image_id 7"),
    ],
)
def test_what_is_no_shape_is_refused_in_one_line(tmp_path, content, told):
    with pytest.raises(MaskError, match=told) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=80, deadline=None)
def test_run_lengths_give_the_mask_back(mask):
    rle = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    counts, column = [], mask.T.ravel()
    value, run = False, 0
    for pixel in column:  # the definition, run by run
        if pixel != value:
            counts, run, value = [*counts, run], 0, pixel
        run += 1
    plain = {"size": list(mask.shape), "counts": [*counts, run]}
    np.testing.assert_array_equal(decode_rle(plain), mask)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=20, deadline=None)
def test_run_lengths_are_those_of_cocos_own_code(mask):
    coco_mask = pytest.importorskip("pycocotools.mask")
    assert (
        encode_rle(mask)["counts"] == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    )


def test_a_known_text_of_coco_is_read():
    """The example of pycocotools' own tests: a square of 2 x 2 in a picture of 4 x 4, runs 5, 2, 2, 2, 5."""
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    assert encode_rle(mask) == {"size": [4, 4], "counts": "52203"}
    for broken in ({"size": [4, 4]}, {"size": [4, 4], "counts": "5220"}, {"size": [4, 4], "counts": "P"}, 3):
        with pytest.raises(MaskError, match="run lengths"):
            decode_rle(broken)


@given(st.integers(0, 30))
def test_a_frame_is_named_by_its_name_or_its_index(index):
    names = [f"{i:05d}" for i in range(5, 36)]
    assert frame_index(names, str(index)) == frame_index(names, index) == index
    assert frame_index(names, names[index]) == frame_index(names, f"{names[index]}.jpg") == index


def test_a_name_comes_before_an_index_and_what_is_neither_is_refused():
    names = ["1", "2", "3"]
    assert frame_index(names, "1") == 0
    assert frame_index(names, "0") == 0
    for wrong in ("4", "-1", "00001", "x"):
        with pytest.raises(ConfigError, match=f"no frame {wrong}; the video has frames 1 to 3, index 0 to 2"):
            frame_index(names, wrong)


@pytest.mark.parametrize(
    ("stem", "index"),
    [
        ("00008", 3),
        ("00008_mask", 3),
        ("mask-00008", 3),
        ("frame_000008", 3),
        ("00008_jpg.rf.1f3a", 3),
        ("00008.jpg___fuse", 3),
        ("first", None),
        ("object_8", None),
        ("20240108", None),
        ("a00008", 3),
        ("clip_1080p", None),
        ("dog_00040", None),
    ],
)
def test_the_frame_that_a_mask_is_named_for(stem, index):
    assert frame_of_file([f"{i:05d}" for i in range(5, 12)], stem) == index


@pytest.mark.parametrize(
    ("stem", "video", "index"),
    [
        ("clip_00008", "clip_00008", None),  # of the video, whose name has a number
        ("CLIP_00008_mask", "clip_00008", None),
        ("clip_00008_00006", "clip_00008", 1),
        ("clip_00008", "clip", 3),
        ("00008", "00008", 3),  # a frame's own name
        ("00008_mask", "00008", 3),
    ],
)
def test_the_number_in_the_name_of_a_video_is_none_of_its_frames(stem, video, index):
    assert frame_of_file([f"{i:05d}" for i in range(5, 12)], stem, video) == index


def test_large_and_small_letters_of_a_frames_name_are_the_same():
    names = [f"img_{i}" for i in range(15)]
    assert frame_of_file(names, "IMG_3") == frame_of_file(names, "Img_3_mask") == 3
    assert frame_of_file([*names, "IMG_3"], "IMG_3") == 15


def test_a_name_of_no_frame_or_of_two_is_asked_about():
    names = [f"{i:05d}" for i in range(5, 12)]
    absent = [(stem, "does not have.* --frame") for stem in ("00040", "00040_mask", "gt-00040", "frame_00040")]
    for stem, told in (*absent, ("00005_00006", "names of 2 frames.*FRAME=FILE")):
        with pytest.raises(MaskError, match=told):
            frame_of_file(names, stem)
    assert frame_of_file(["left", "right"], "mask of left") == 0


def test_json_of_windows_is_read(tmp_path):
    shape = {"label": "dog", "points": [[1, 1], [9, 1], [9, 9]]}
    content = {"imageHeight": 20, "imageWidth": 30, "shapes": [shape]}
    (tmp_path / "m.json").write_text(json.dumps(content), encoding="utf-16")
    (image,) = read_shapes(tmp_path / "m.json")
    assert image.objects() == [1]
    with pytest.raises(MaskError, match="no such file"):
        read_shapes(tmp_path / "gone.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of Unix")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.json")
    with pytest.raises(MaskError, match="no file"):
        read_shapes(tmp_path / "m.json")
