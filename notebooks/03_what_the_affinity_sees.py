# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. What the affinity sees
#
# Labels travel from frame to frame along the *affinity*: each cell of a new frame looks for the cells of earlier
# frames that are most like it, and takes over what they are labelled with. You will choose a pixel, see where its
# label comes from, and see what windows and temperature are good for. It takes half a minute on two CPU cores.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import vos_umec
from vos_umec.clustering import encode_frames
from vos_umec.matching import cell_weights, gather_values, top_k_affinity
from vos_umec.viz import Sliders, contact_sheet, heat_map, key_colors, mark_pixel, overlay

SMALL = os.environ.get("VOS_UMEC_SMALL")  # a folder: then all is tiny and written there, for a quick check
OUT = Path(SMALL or "../runs/notebooks")

# %% [markdown]
# ## Keys
#
# The encoder turns each cell of 4 x 4 pixels into a key, a vector of length 1. We take four earlier frames as
# *references*, and ask about a later one, the *query*. The first reference is the frame with the mask, so it is the
# only one whose labels are certain.

# %%
size, length = ((64, 96), 8) if SMALL else ((160, 288), 32)
made = vos_umec.SyntheticVOS(OUT / "video", 1, 1, length, size, seed=10, objects=(2, 3))
made.prepare()
sequence = made.val_sequences()[0]
asked = length * 3 // 4
references = [0, asked - 9, asked - 6, asked - 3] if length > 12 else [0, 1, 2, 3]
frames = sequence.source().read([*references, asked])  # (5, H, W, 3)
network = vos_umec.load()
keys = encode_frames(frames, network.encoder, torch.device("cpu")).float()  # (5, D, h, w)
D, h, w = keys.shape[1:]
names = [*(f"reference, frame {t}" for t in references), f"query, frame {asked}"]
Image.fromarray(contact_sheet([list(frames), list(key_colors(keys.numpy()))], [names, [""] * 5], width=1000))

# %% [markdown]
# **Figure 1.** The frames, and below them their keys: the three directions in which keys vary most are shown as
# red, green and blue. Places of one color are the same to the encoder. Things keep their color from frame to frame.
# The violet object on the right (object 1) and its twin on the left have the same one.
#
# ## Choose a pixel
#
# `(row, column)` in pixels of the query. `similarity` is the cosine of its key with all keys of the references.

# %%
truth = vos_umec.read_mask(sequence.annotations[asked])
inside = np.argwhere(truth == 1)
row, column = (int(n) for n in inside[np.abs(inside - inside.mean(axis=0)).sum(axis=1).argmin()])
stride = network.stride
cell = row // stride, column // stride

key_q, keys_r = keys[4].permute(1, 2, 0).contiguous(), keys[:4].permute(0, 2, 3, 1).contiguous()  # (h, w, D)
similarity = keys_r @ key_q[cell]  # (4, h, w)
question = mark_pixel(frames[4], row, column)
maps = [heat_map(frame, heat.numpy(), peak=1.0) for frame, heat in zip(frames, similarity, strict=False)]
labels = [f"frame {t}" for t in references]
rows = [[question, maps[0]], maps[1:]], [["the pixel", labels[0]], labels[1:]]
Image.fromarray(contact_sheet(*rows, width=1000))

# %% [markdown]
# **Figure 2.** How similar each cell is to the chosen one, dark for a cosine of 0 or less, yellow for 1. Object 1
# is similar in every frame, and so is its twin. Similarity alone cannot tell the two apart.
#
# ## Where its label comes from
#
# The affinity keeps the ten best cells of all references together, and takes a softmax over them. For the first
# frame it looks up to 30 cells away, for the others up to 12: in a few frames nothing moves far.


# %%
def find(radius=12.0, permanent_radius=30.0, tau=network.tau, top_k=10):
    return top_k_affinity(key_q, keys_r, 1, top_k, tau, radius=radius, permanent_radius=permanent_radius)


def answers(best, cell):
    """Pictures of the references with the weights of a cell, and the share of each of them."""
    weights = cell_weights(best, cell, (h, w), len(references)).numpy()  # (4, h, w)
    pictures = [
        heat_map(frame, weight, peak=weights.max() / 2) for frame, weight in zip(frames, weights, strict=False)
    ]
    return pictures, weights.sum(axis=(1, 2))


def question_and_answers(row, column, best):
    pictures, shares = answers(best, (row // stride, column // stride))
    labels = [f"frame {t}: {share:.0%}" for t, share in zip(references, shares, strict=True)]
    question = mark_pixel(frames[4], row, column)
    rows = [[question, pictures[0]], pictures[1:]], [["the pixel", labels[0]], labels[1:]]
    return contact_sheet(*rows, width=1000)


best = find()
Sliders(
    lambda row, column: question_and_answers(row, column, best),
    start={"row": row - row % stride, "column": column - column % stride},
    row=range(0, size[0], stride),
    column=range(0, size[1], stride),
)

# %% [markdown]
# **Figure 3.** The ten cells that the pixel takes its label from, and the share of each reference. All of them lie
# on the same part of the object. Where a kernel runs, the sliders move the pixel. Try the border of an object, and
# ground that was hidden in all references.
#
# ## Windows and temperature
#
# Two other ways to read: without windows, and with a softer softmax over 200 cells.

# %%
ways = {
    "as above": find(),
    "no windows": find(radius=None, permanent_radius=None),
    "soft, 200 cells": find(tau=1.0, top_k=200),
}
rows, labels = [], []
for name, one in ways.items():
    pictures, shares = answers(one, cell)
    rows.append(pictures)
    labels.append([f"{name}; frame 0: {shares[0]:.0%}", *(f"{share:.0%}" for share in shares[1:])])
Image.fromarray(contact_sheet(rows, labels, width=1000))

# %% [markdown]
# **Figure 4.** The same pixel, read in three ways. Without windows two of the ten cells lie on the twin. With a
# high temperature the label becomes a mean over a large part of the object.
#
# ## From weights to masks
#
# Every cell does the same. The labels of the references, weighted and added, are the *coarse masks* of the query.
# Here the references have their true masks; in a real video only the first one has.

# %%
ids = np.stack([vos_umec.read_mask(sequence.annotations[t]) for t in references])
objects = [int(i) for i in np.unique(ids[0]) if i]
onehot = torch.from_numpy(np.stack([ids == i for i in objects], axis=-1)).float()  # (4, H, W, K)
labelled = onehot.unflatten(1, (h, stride)).unflatten(3, (w, stride)).mean(dim=(2, 4))  # (4, h, w, K), over cells


def coarse(best):
    soft = gather_values(best, labelled).view(h, w, -1)  # (h, w, K)
    background = 1 - soft.sum(dim=2, keepdim=True)
    chosen = torch.cat((background, soft), dim=2).argmax(dim=2).numpy()
    found = np.array([0, *objects], np.uint8)[chosen]
    return found.repeat(stride, axis=0).repeat(stride, axis=1), soft


found = {name: coarse(best)[0] for name, best in ways.items()}
pictures = [overlay(frames[4], truth), *(overlay(frames[4], ids) for ids in found.values())]
wrong = {name: (ids != truth).mean() for name, ids in found.items()}
labels = ["truth", *(f"{name}: {share:.1%} wrong" for name, share in wrong.items())]
Image.fromarray(contact_sheet([pictures[:2], pictures[2:]], [labels[:2], labels[2:]], width=1000))

# %% [markdown]
# **Figure 5.** Coarse masks by the three ways of reading, and the share of pixels with a wrong label. Without
# windows object 1 and its twin exchange cells. With a high temperature outlines run over, and thin parts are lost.
# Outlines follow cells of 4 x 4 pixels, which is what the decoder is there to refine.
#
# ## Where it is unsure
#
# The strongest weight of a cell, and its best cosine, say whether a good match was there.

# %%
score = best.score[:, 0].view(h, w).numpy()
largest = coarse(best)[1].max(dim=2).values
unsure = (1 - (2 * largest - 1).abs()).numpy()  # 1 where a label has half of the weight
figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
for each, image, title, color in (
    (axes[0], score, "best cosine", "viridis"),
    (axes[1], unsure, "disagreement of the matches", "magma"),
):
    shown = each.imshow(image, cmap=color)
    each.set(title=title, xticks=[], yticks=[])
    figure.colorbar(shown, ax=each, shrink=0.8)
plt.show()

# %% [markdown]
# **Figure 6.** Left: low where things meet. Right: the matches disagree at the outlines of the objects, and hardly
# anywhere else. So a sure match can still be wrong.
#
# ## Read next
#
# * `04_your_own_module`: train keys of your own, and look at them as in figure 1.
# * `06_evaluate`: what windows and temperature do to the score of whole videos.
# * `vos_umec.Readout` holds these settings: `load_segmenter(readout={"radius": 18})`.
