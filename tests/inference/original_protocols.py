"""How published code segments a video, written out densely from its rules: no window trick, nothing kept in bounds.

The rules are arguments, named as those of VideoSegmenter and Readout, so that each can be switched off in both.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD


def clip(size, frames=8, seed=0):
    """Three textured shapes that move over a textured ground: frames (T, H, W, 3), and the first mask (H, W)."""
    generator = np.random.default_rng(seed)
    H, W = size
    y, x = np.mgrid[:H, :W]
    video, masks = np.empty((frames, H, W, 3), np.uint8), []
    for t in range(frames):
        ids = np.zeros(size, np.uint8)
        ids[np.hypot(y - 0.55 * H, x - (0.25 * W + 3 * t)) < 0.22 * H] = 1
        ids[(abs(y - (0.3 * H + 2 * t)) < 0.15 * H) & (abs(x - (0.7 * W - 2 * t)) < 0.1 * W)] = 2
        ids[np.hypot(y - 0.8 * H, x - (0.6 * W + t)) < 0.06 * H] = 3  # less than a cell or two
        hue = np.array([[90, 110, 70], [200, 90, 60], [60, 100, 200], [220, 210, 80]])[ids]
        wave = 25 * np.sin(x / 5 + ids + t / 3) + 20 * np.sin(y / 7 - 2 * ids) + generator.normal(0, 8, size)
        video[t] = (hue + wave[..., None]).clip(0, 255)
        masks.append(ids)
    return video, masks[0]


def linear_weights(n, m, aligned=False):
    """Bilinear interpolation along one side, from n to m places, as a matrix (m, n)."""
    weights = torch.zeros(m, n)
    for i in range(m):
        place = i * (n - 1) / (m - 1) if aligned else (i + 0.5) * n / m - 0.5
        place = min(max(place, 0), n - 1)
        low = min(int(place), n - 2)
        weights[i, low], weights[i, low + 1] = 1 - (place - low), place - low
    return weights


def bilinear(x, size, aligned=False):
    """Maps (C, H, W) at another size."""
    down, across = (linear_weights(n, m, aligned) for n, m in zip(x.shape[-2:], size, strict=True))
    return down @ x @ across.T


def averages(x, size):
    """Means (C, h, w) of whole cells of maps (C, H, W)."""
    return x.unflatten(2, (size[1], -1)).unflatten(1, (size[0], -1)).mean(dim=(2, 4))


def nearest(ids, size):
    return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))


def stretched(masks):
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > 0, (masks - low) / (high - low), masks)


def dense_weights(keys, entries, t, top_k, tau, window="disc"):
    """The affinity of frame t to the frames and radii of `entries`: (h*w, N*h*w), zero where a cell is not read."""
    h, w, _ = keys[t].shape
    y, x = (part.flatten() for part in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    down, across = (y - y[:, None]).abs(), (x - x[:, None]).abs()
    distance = torch.hypot(down.float(), across.float()) if window == "disc" else torch.maximum(down, across)
    scores = torch.cat(
        [
            (keys[t].flatten(0, 1) @ keys[r].flatten(0, 1).T).masked_fill(
                distance >= (math.inf if reach is None else reach), -torch.inf
            )
            for r, reach in entries
        ],
        dim=1,
    )
    best, index = scores.topk(top_k, dim=1)
    return torch.zeros_like(scores).scatter(1, index, torch.softmax(best / tau, dim=1))


def segment_by_votes(
    keys_of, stride, frames, mask, *, references, top_k, radius, permanent_radius, tau, window="disc",
    repeat_first=False, short_side=None, fit="pad", mask_sampling="area", stretch_masks=False, std=IMAGENET_STD,
):  # fmt: skip
    """Label propagation: ids (T, H, W). `keys_of` gives unit-norm keys (D, h, w) of an image (3, H', W')."""
    size = mask.shape
    whole = [round(side * (short_side or min(size)) / min(size)) for side in size]
    if isinstance(fit, int):
        longer = int(np.argmax(size))
        whole[longer] = whole[longer] // fit * fit
        whole[1 - longer] = whole[1 - longer] // stride * stride
    whole = tuple(whole)
    edge = [-side % stride if fit == "pad" else 0 for side in whole]
    grid = tuple(math.ceil(side / stride) for side in whole)
    padded = tuple(side + more for side, more in zip(whole, edge, strict=True))

    def to_pad(x):
        return torch.from_numpy(np.pad(x, ((0, 0), (0, edge[0]), (0, edge[1])), mode="edge"))

    keys = []
    for frame in frames:
        x = torch.from_numpy(frame).permute(2, 0, 1).float()
        if whole != size:
            x = bilinear(x, whole).round()
        x = (x / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        keys.append(keys_of(to_pad(x.numpy())).permute(1, 2, 0))  # (h, w, D)
    one_hot = np.stack([mask == i for i in range(mask.max() + 1)]).astype(np.float32)  # the background is first
    if mask_sampling == "nearest":
        soft = [torch.from_numpy(np.stack([nearest(mask, grid) == i for i in range(len(one_hot))])).float()]
    elif mask_sampling == "area":
        soft = [averages(to_pad(one_hot), grid)]
    else:
        soft = [bilinear(to_pad(one_hot), grid, mask_sampling == "aligned")]  # (K+1, h, w)
    results = [mask]
    for t in range(1, len(frames)):
        entries = [(0, permanent_radius), *((r, radius) for r in range(max(1, t - references), t))]
        if repeat_first:
            entries += [(0, radius)] * (1 + references - len(entries))
        A = dense_weights(keys, entries, t, top_k, tau, window)
        soft.append((A @ torch.cat([soft[r].flatten(1).T for r, _ in entries])).T.unflatten(1, grid))
        masks = bilinear(soft[t], padded, mask_sampling == "aligned")[:, : whole[0], : whole[1]]
        if whole != size and mask_sampling != "nearest":
            masks = bilinear(masks, size, mask_sampling == "aligned")
        ids = (stretched(masks) if stretch_masks else masks).argmax(dim=0).numpy().astype(np.uint8)
        results.append(ids if ids.shape == size else nearest(ids, size))
    return np.stack(results)


def cubic_weights(n, m):
    """Cubic convolution (a = -0.75) along one side, from n to m places taken for m + 0.1, as a matrix (m, n)."""

    def kernel(d):
        d = abs(d)
        if d <= 1:
            return 1.25 * d**3 - 2.25 * d**2 + 1
        return -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0

    weights = torch.zeros(m, n)
    for i in range(m):
        place = (i + 0.5) * n / (m + 0.1) - 0.5
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[i, min(max(j, 0), n - 1)] += kernel(place - j)
    return weights


def dino_keys(net):
    """Keys of a ViT of timm as DINO's code computes them."""

    def keys_of(image):
        x = net.patch_embed.proj(image[None])[0]  # (C, h, w)
        rows, columns = net.patch_embed.grid_size
        positions = net.pos_embed[0, 1:].T.unflatten(1, (rows, columns))  # (C, rows, columns)
        x = x + cubic_weights(rows, x.shape[1]) @ positions @ cubic_weights(columns, x.shape[2]).T
        first = net.cls_token[0] + net.pos_embed[0, :1]  # (1, C)
        tokens = torch.cat([first, x.flatten(1).T])[None]
        for block in net.blocks:
            tokens = block(tokens)
        return F.normalize(net.norm(tokens)[0, 1:], dim=1).T.unflatten(1, x.shape[1:])

    return keys_of


def segment_as_umec_code(network, frames, mask, references, top_k, radius, tau):
    """What the code does that UMEC's authors released: ids (T, H, W). Sides are multiples of the stride."""
    size, s = mask.shape, network.stride
    grid = (size[0] // s, size[1] // s)
    one_hot = torch.from_numpy(np.stack([mask == i for i in range(mask.max() + 1)])).float()  # (K+1, H, W)
    keys, coarse, values, results = [], [bilinear(one_hot, grid, aligned=True)], [], [mask]
    for t, frame in enumerate(frames):
        image = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
        image = ((image - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1))[
            None
        ]
        features = network.encoder(image)
        keys.append(features.key[0].permute(1, 2, 0))
        if t == 0:
            given = one_hot[1:]
        else:
            short = [0] * references + list(range(1, t))
            entries = [(0, None), *((r, radius) for r in short[-references:])]
            A = dense_weights(keys, entries, t, top_k, tau)
            coarse.append((A @ torch.cat([coarse[r].flatten(1).T for r, _ in entries])).T.unflatten(1, grid))
            V_q = A @ torch.cat([values[r].flatten(2).transpose(1, 2) for r, _ in entries], dim=1)  # (K, h*w, Dv)
            vote = bilinear(coarse[t], size, aligned=True)  # (K+1, H, W)
            Vbar_q = network.embed(image, features, vote[None, 1:])[0]
            K, D = len(vote) - 1, network.decoder
            skips = [x.expand(K, -1, -1, -1) for x in D.precompute(features.skips, image)]
            V_q = V_q.transpose(1, 2).unflatten(2, grid)
            p = D(D.precompute_object(V_q), Vbar_q, skips, vote[1:, None]).sigmoid()[:, 0]  # (K, H, W)
            p = torch.cat([(1 - p).prod(dim=0, keepdim=True), p]).clamp(1e-7, 1 - 1e-7)
            mean = (torch.log(p / (1 - p)) + vote) / 2
            results.append(mean.argmax(dim=0).numpy().astype(np.uint8))
            given = mean[1:]
        values.append(network.embed(image, features, given[None])[0])  # (K, Dv, h, w)
    return np.stack(results)
