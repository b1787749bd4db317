import math

import pytest
import torch

from vos_umec.objectives.segmentation import segmentation_loss


def slow_loss(logits, masks, valid, known):
    """Pixel by pixel: -log softmax over background and the objects that exist."""
    B, K, H, W = masks.shape
    total, count = 0.0, 0
    for b in range(B):
        objects = [k for k in range(K) if valid[b, k]]
        if not objects:
            continue
        for y in range(H):
            for x in range(W):
                if not known[b, y, x]:
                    continue
                channels = [0] + [k + 1 for k in objects]
                own = next((k + 1 for k in objects if masks[b, k, y, x]), 0)
                total = total + torch.logsumexp(logits[b, channels, y, x], 0) - logits[b, own, y, x]
                count += 1
    return total / count


def case(B=3, K=3, H=4, W=5):
    logits = (3 * torch.randn(B, K + 1, H, W, dtype=torch.float64)).requires_grad_()
    label = torch.randint(0, K + 1, (B, H, W))
    masks = torch.stack([label == k + 1 for k in range(K)], dim=1).float()
    valid = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    known = torch.rand(B, H, W) > 0.3
    return logits, masks, valid, known


def test_equals_the_loop_with_gradients():
    logits, masks, valid, known = case()
    fast, slow = segmentation_loss(logits, masks, valid, known), slow_loss(logits, masks, valid, known)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (fast, slow)))


def test_the_iou_term_is_each_objects_own():
    logits, masks, valid, known = case()
    p = torch.where(
        torch.nn.functional.pad(valid, (1, 0), value=True)[:, :, None, None], logits, -math.inf
    ).softmax(1)
    misses = []
    for b, k in valid.nonzero().tolist():
        pairs = [(p[b, k + 1, y, x], masks[b, k, y, x]) for y, x in known[b].nonzero().tolist()]
        inter = sum(found * true for found, true in pairs)
        union = sum(found + true - found * true for found, true in pairs)
        misses.append(1 - (inter + 1) / (union + 1))
    with_iou = segmentation_loss(logits, masks, valid, known, iou_weight=0.5)
    expected = segmentation_loss(logits, masks, valid, known) + 0.5 * torch.stack(misses).mean()
    torch.testing.assert_close(with_iou, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (with_iou, expected)))


def test_absent_objects_may_be_minus_infinity():
    logits, masks, valid, known = case()
    absent = torch.cat([torch.zeros(3, 1, dtype=torch.bool), ~valid], dim=1)[:, :, None, None]
    expected = segmentation_loss(logits, masks, valid, known)
    loss = segmentation_loss(logits.masked_fill(absent, -math.inf), masks, valid, known)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert (gradient[:, 1:][~valid] == 0).all()


@pytest.mark.parametrize("nothing", ["objects", "pixels"])
def test_nothing_to_learn_is_zero_with_a_graph(nothing):
    logits, masks, valid, known = case()
    if nothing == "objects":
        valid = torch.zeros_like(valid)
    else:
        known = torch.zeros_like(known)
    loss = segmentation_loss(logits.masked_fill(torch.zeros(1, 4, 1, 1).bool(), 0), masks, valid, known)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_logits_give_a_finite_fp32_loss():
    logits, masks, valid, known = case()
    loss = segmentation_loss(logits.bfloat16(), masks, valid, known)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), segmentation_loss(logits, masks, valid, known), rtol=0.05, atol=0)


def test_a_right_map_costs_nothing_and_a_wrong_one_much():
    _, masks, valid, known = case()
    shown = masks * valid[:, :, None, None]
    right = torch.cat([1 - shown.sum(dim=1, keepdim=True), shown], dim=1)
    assert float(segmentation_loss(40 * right, masks, valid, known)) < 1e-6
    assert float(segmentation_loss(-40 * right, masks, valid, known)) > 30
