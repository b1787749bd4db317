import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.errors import ConfigError
from vos_umec.transforms.geometric import GeometricTransform


def crop_and_flip(left: float, top: float, width: float, height: float, size, output, flip=False):
    """The transformation written from the definition: where does each centre of the source go?"""

    def place(x, y):
        u = (x + 0.5 - left) * output[1] / width - 0.5
        v = (y + 0.5 - top) * output[0] / height - 0.5
        return (output[1] - 1 - u if flip else u), v

    (x0, y0), (x1, _), (_, y1) = place(0, 0), place(1, 0), place(0, 1)
    matrix = torch.tensor([[[x1 - x0, 0, x0], [0, y1 - y0, y0], [0, 0, 1.0]]])
    return GeometricTransform(matrix, size, output)


def box_of(phi: GeometricTransform) -> torch.Tensor:
    """(B, 4) left, top, right, bottom of the part of the source that is seen, in edge coordinates (0 to W)."""
    H, W = phi.output_size
    corners = torch.tensor([[-0.5, -0.5, 1.0], [W - 0.5, H - 0.5, 1.0]], dtype=torch.float64).T
    seen = (torch.linalg.inv(phi.matrix.double()) @ corners)[:, :2] + 0.5  # (B, 2, 2)
    low, high = seen.amin(-1), seen.amax(-1)
    return torch.cat([low, high], dim=1)


def ramps(H: int, W: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(float(H)), torch.arange(float(W)), indexing="ij")
    return torch.stack([x, y])[None]  # (1, 2, H, W)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("output", [(24, 40), (48, 80), (17, 31)])
def test_a_ramp_becomes_the_analytic_ramp(flip, output):
    left, top, width, height = 6.25, 3.5, 26.0, 15.6
    phi = crop_and_flip(left, top, width, height, (24, 40), output, flip)
    out = phi.apply_image(ramps(24, 40))[0]
    u = torch.arange(float(output[1]))
    u = output[1] - 1 - u if flip else u
    x = (u + 0.5) * width / output[1] + left - 0.5
    y = (torch.arange(float(output[0])) + 0.5) * height / output[0] + top - 0.5
    torch.testing.assert_close(out[0], x.expand(output), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[1], y[:, None].expand(output), atol=1e-3, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_the_sampled_matrix_is_what_happens_to_the_image(flip):
    phi = GeometricTransform.sample(5, (48, 64), output_size=(36, 48), flip=float(flip))
    out = phi.apply_image(ramps(48, 64).expand(5, -1, -1, -1))  # (5, 2, 36, 48): the source of each pixel
    source = torch.cat([out, torch.ones(5, 1, 36, 48)], dim=1)
    back = torch.einsum("bij,bjhw->bihw", phi.matrix, source)[:, :2]
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # the outermost half pixel is repeated
    torch.testing.assert_close(back[inside], ramps(36, 48).expand(5, -1, -1, -1)[inside], atol=2e-3, rtol=0)


@pytest.mark.parametrize("output", [(20, 30), (10, 15), (40, 60), (23, 41)])
def test_the_whole_image_resized_equals_torch_interpolate(output):
    x = torch.rand(2, 3, 20, 30)
    phi = GeometricTransform.sample(2, (20, 30), output, scale=(1.0, 1.0), flip=0.0)
    expected = F.interpolate(x, output, mode="bilinear", align_corners=False)
    torch.testing.assert_close(phi.apply_image(x), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_features_agree_with_the_warped_image_when_crops_fit_the_stride(stride, flip):
    x = torch.rand(1, 3, 64, 96)
    phi = crop_and_flip(2 * stride, stride, 48, 32, (64, 96), (32, 48), flip)
    from_image = F.avg_pool2d(phi.apply_image(x), stride)
    from_features = phi.apply_features(F.avg_pool2d(x, stride))
    torch.testing.assert_close(from_features, from_image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("stride", [2, 8])
def test_features_and_image_agree_on_where_things_are_under_any_crop(stride, flip):
    coordinates = ramps(64, 96)
    phi = GeometricTransform.sample(1, (64, 96), flip=float(flip))
    from_image = F.avg_pool2d(phi.apply_image(coordinates), stride)
    from_features = phi.apply_features(F.avg_pool2d(coordinates, stride))
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # ramps are cut flat at the border
    torch.testing.assert_close(from_features[inside], from_image[inside], atol=2e-3, rtol=0)


def test_stride_that_does_not_divide_spans_the_same_image():
    phi = GeometricTransform.sample(1, (50, 70), scale=(1.0, 1.0), flip=1.0)
    f = torch.rand(1, 4, 7, 9)
    torch.testing.assert_close(phi.apply_features(f), f.flip(-1), atol=1e-4, rtol=0)


def test_one_cell_maps_survive():
    phi = GeometricTransform.sample(2, (8, 32), scale=(1.0, 1.0), flip=1.0)
    f = torch.rand(2, 4, 1, 4)
    torch.testing.assert_close(phi.apply_features(f), f.flip(-1), atol=1e-4, rtol=0)
    one = GeometricTransform.sample(2, (8, 8), scale=(1.0, 1.0), flip=1.0)
    f = torch.rand(2, 4, 1, 1)
    torch.testing.assert_close(one.apply_features(f), f, atol=1e-4, rtol=0)


def test_every_frame_of_a_clip_is_treated_alike_and_clips_apart():
    x = torch.rand(3, 1, 2, 16, 16).expand(3, 4, 2, 16, 16)
    phi = GeometricTransform.sample(3, (16, 16))
    out = phi.apply_image(x)
    for t in range(1, 4):
        assert torch.equal(out[:, 0], out[:, t])
    for b in range(3):
        alone = GeometricTransform(phi.matrix[b : b + 1], (16, 16), (16, 16)).apply_image(x[b : b + 1])
        torch.testing.assert_close(alone[0], out[b], atol=1e-6, rtol=0)
    assert not torch.allclose(phi.matrix[0], phi.matrix[1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_ids_survive_exactly_and_out_of_view_is_unknown(dtype):
    ids = torch.randint(0, 256, (1, 2, 12, 20)).to(dtype)
    whole = crop_and_flip(3, 2, 8, 4, (12, 20), (4, 8), flip=True)
    assert torch.equal(whole.apply_mask(ids), ids[..., 2:6, 3:11].flip(-1))
    twice = crop_and_flip(3, 2, 8, 4, (12, 20), (8, 16))
    expected = ids[..., 2:6, 3:11].repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(twice.apply_mask(ids), expected)
    beyond = crop_and_flip(-4, 0, 20, 12, (12, 20), (12, 20))
    out = beyond.apply_mask(ids)
    assert (out[..., :4] == 255).all()
    assert torch.equal(out[..., 4:], ids[..., :16])
    assert (beyond.apply_mask(ids, fill=0)[..., :4] == 0).all()


def test_bool_masks_stay_bool():
    phi = GeometricTransform.sample(1, (6, 6), scale=(1.0, 1.0), flip=1.0)
    mask = torch.rand(1, 6, 6) > 0.5
    assert torch.equal(phi.apply_mask(mask), mask.flip(-1))


def test_out_of_view_cells_are_marked_and_read_zero():
    phi = crop_and_flip(-16, 0, 64, 32, (32, 64), (32, 64))  # everything 16 pixels to the right
    valid = phi.valid_mask((4, 8))
    assert not valid[..., :2].any()
    assert valid[..., 2:].all()
    out = phi.apply_features(torch.ones(1, 5, 4, 8))
    torch.testing.assert_close(out[0, 0], valid[0].float(), atol=1e-4, rtol=0)
    assert (phi.apply_image(torch.ones(1, 3, 32, 64))[..., :16] == 0).all()


def test_equals_kornia_s_warp():
    from kornia.geometry.transform import warp_affine

    x = torch.rand(3, 2, 20, 30)
    phi = GeometricTransform.sample(3, (20, 30), output_size=(24, 24))
    warped = warp_affine(x, phi.matrix[:, :2], (24, 24), padding_mode="border", align_corners=True)
    torch.testing.assert_close(phi.apply_image(x), warped, atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    low=st.floats(0.2, 1.0),
    span=st.floats(0.0, 1.0),
    h=st.integers(2, 20),
    w=st.integers(2, 20),
    seed=st.integers(0, 99),
)
def test_sampled_crops_lie_inside_keep_the_aspect_and_the_range(low, span, h, w, seed):
    torch.manual_seed(seed)
    high = low + span * (1 - low)
    size = (8 * h, 8 * w)
    phi = GeometricTransform.sample(16, size, scale=(low, high))
    box = box_of(phi)
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64)
    assert (box[:, :2] >= -1e-2).all()
    assert (box[:, 2:] <= extent + 1e-2).all()
    side = (box[:, 2:] - box[:, :2]) / extent
    torch.testing.assert_close(side[:, 0], side[:, 1], atol=1e-4, rtol=0)
    assert (side >= low - 1e-3).all()
    assert (side <= high + 1e-3).all()
    assert phi.valid_mask((h, w)).all()


def test_distribution_is_uniform_in_area_place_and_flip():
    phi = GeometricTransform.sample(20000, (100, 100), scale=(0.5, 1.0), flip=0.3)
    box = box_of(phi)
    area = ((box[:, 2] - box[:, 0]) / 100) ** 2
    quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(area.quantile(quantiles), 0.25 + 0.75 * quantiles, atol=0.01, rtol=0)
    free = 100 - (box[:, 2] - box[:, 0])
    torch.testing.assert_close((box[:, 0] / free).quantile(quantiles), quantiles, atol=0.02, rtol=0)
    assert abs((phi.matrix[:, 0, 0] < 0).double().mean() - 0.3) < 0.02


def test_the_global_seed_repeats_a_draw():
    torch.manual_seed(3)
    first = GeometricTransform.sample(4, (32, 32)).matrix
    second = GeometricTransform.sample(4, (32, 32)).matrix
    torch.manual_seed(3)
    assert torch.equal(first, GeometricTransform.sample(4, (32, 32)).matrix)
    assert not torch.equal(first, second)


def test_autocast_does_not_blur_coordinates():
    phi = GeometricTransform.sample(1, (256, 256), output_size=(512, 512), scale=(0.9, 0.9))
    x = ramps(256, 256)
    plain = phi.apply_image(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = phi.apply_image(x)
        features = phi.apply_features(x)
    assert torch.equal(plain, mixed)
    torch.testing.assert_close(features, plain, atol=1e-3, rtol=0)
    assert phi.apply_image(x.bfloat16()).dtype == torch.bfloat16


def test_gradients_flow_through_features():
    phi = GeometricTransform.sample(1, (16, 16), scale=(0.7, 0.7))
    f = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(phi.apply_features, (f,))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GeometricTransform.sample(1, (8, 8), scale=(0.0, 1.0)), "scale"),
        (lambda: GeometricTransform.sample(1, (8, 8), scale=(0.5, 1.5)), "scale"),
        (lambda: GeometricTransform.sample(1, (8, 8), flip=2.0), "flip"),
        (lambda: GeometricTransform.sample(1, (8, 8)).apply_image(torch.rand(2, 3, 8, 8)), r"\(2, 3, 8, 8\)"),
        (lambda: GeometricTransform.sample(1, (8, 8)).apply_image(torch.rand(1, 3, 8, 9)), r"\(1, 3, 8, 9\)"),
        (lambda: GeometricTransform.sample(1, (8, 8)).apply_mask(torch.rand(1, 8, 8)), "integer"),
        (lambda: GeometricTransform(torch.eye(3), (8, 8), (8, 8)), "matrix"),
        (lambda: GeometricTransform(torch.eye(3)[None], (8, 0), (8, 8)), "sizes"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
