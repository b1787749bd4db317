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
# # 6. Evaluate
#
# You will score masks by the protocol of DAVIS 2017: write them to a folder, score the folder, compare settings by
# sequence, and look at the best and at the worst frames. It takes about two minutes on two CPU cores.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import vos_umec
from vos_umec.data import davis_sequences
from vos_umec.metrics import SequenceScorer
from vos_umec.viz import Sliders, contact_sheet, overlay

SMALL = os.environ.get("VOS_UMEC_SMALL")  # a folder: then all is tiny and written there, for a quick check
OUT = Path(SMALL or "../runs/notebooks")

# %% [markdown]
# ## A folder like that of DAVIS
#
# If you have DAVIS, set `root` to it and leave this cell out. Here we write four synthetic videos in its layout:
# frames in `JPEGImages/480p/SEQUENCE`, masks as indexed PNGs in `Annotations/480p/SEQUENCE`, and a list of the
# sequences.

# %%
root = OUT / "DAVIS"
size, length, number = ((64, 96), 8, 2) if SMALL else ((160, 288), 24, 4)
made = vos_umec.SyntheticVOS(OUT / "video", 1, number, length, size, seed=2, objects=(1, 3))
made.prepare()
for sequence in made.val_sequences():
    frames, masks = (root / part / "480p" / sequence.name for part in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(sequence.source().read(range(length))):
        Image.fromarray(frame).save(frames / f"{t:05d}.jpg", quality=95)
        vos_umec.write_mask(masks / f"{t:05d}.png", vos_umec.read_mask(sequence.annotations[t]))
listing = root / "ImageSets" / "2017" / "val.txt"
listing.parent.mkdir(parents=True, exist_ok=True)
listing.write_text("".join(f"{sequence.name}\n" for sequence in made.val_sequences()))

sequences = davis_sequences(root, "val")
pictures = [overlay(sequence.source().read([0])[0], sequence.prompt_masks()[0]) for sequence in sequences]
Image.fromarray(contact_sheet([pictures], [[sequence.name for sequence in sequences]], width=1000))

# %% [markdown]
# **Figure 1.** The sequences, and the masks of their first frames, which are all that a method may read.
#
# ## Segment them, and write the masks
#
# One indexed PNG for each frame, under the frame's name. `vos-umec predict` does the same on the command line. Two
# settings of the package's model: the whole model, and label propagation, which leaves out the decoder
# (`rounds=0`).

# %%
methods = {"whole_model": {}, "label_propagation": {"rounds": 0}}
settings = {"short_side": size[0], "readout": {"radius": 12, "permanent_radius": 30}}
for method, own in methods.items():
    segmenter = vos_umec.load_segmenter(**settings, **own)
    for sequence in sequences:
        segmenter.reset()
        source = sequence.source()
        for index, ids in segmenter.segment(source, sequence.prompt_masks()):
            vos_umec.write_mask(OUT / "results" / method / sequence.name / f"{source.names[index]}.png", ids)

# %% [markdown]
# ## Score the folders
#
# `evaluate` follows the official rules: J is the overlap of the masks of an object (intersection over union), F
# that of their outlines, within some pixels. The first and the last frame do not count. *Recall* is the part of the
# frames above 50 %. *Decay* is how much a score falls from the first quarter of a video to the last.

# %%
scores = {method: vos_umec.evaluate(OUT / "results" / method, root=root) for method in methods}
scores["whole_model"].table()

# %%
scores["label_propagation"].table()

# %%
labels = [f"{row['sequence']}\nobject {row['object']}" for row in scores["whole_model"].objects]
figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
for shift, (method, of) in zip((-0.2, 0.2), scores.items(), strict=True):
    name = f"{method.replace('_', ' ')}, {100 * of.overall['J&F']:.1f} in the mean"
    axes.bar(np.arange(len(labels)) + shift, [100 * row["J&F"] for row in of.objects], 0.38, label=name)
axes.set_xticks(range(len(labels)), labels, fontsize="small")
axes.set(ylabel="J&F, %", ylim=(0, 100))
figure.legend(loc="outside upper center", ncols=2)
axes.grid(axis="y", alpha=0.3)
plt.show()

# %% [markdown]
# **Figure 2.** J&F by object. The mean is over objects, not over sequences, as DAVIS has it. The decoder adds
# little here, and one sequence, `val_003`, costs most of what is lost.
#
# ## The best and the worst frames
#
# A mean hides where a method fails. `SequenceScorer.frame_rows` gives every object in every frame.

# %%
rows, masks = [], {}
for sequence in sequences:
    scorer, names = SequenceScorer(sequence.name), sequence.source().names
    for t, path in sorted(sequence.annotations.items()):
        truth = vos_umec.read_mask(path)
        found = vos_umec.read_mask(OUT / "results" / "whole_model" / sequence.name / f"{names[t]}.png")
        masks[sequence.name, t] = truth, found
        scorer.update(found, truth)
    rows += scorer.frame_rows()
by_name = {sequence.name: sequence for sequence in sequences}


def compare(row):
    """A frame with its truth and with what was found, only the object of the row."""
    name, t, of = row["sequence"], row["frame"], row["object"]
    (frame,) = by_name[name].source().read([t])
    return [overlay(frame, np.where(ids == of, ids, 0).astype(np.uint8)) for ids in masks[name, t]]


def extremes(worst):
    """The most extreme frame of each object, the three most extreme objects first."""
    ordered = sorted(rows, key=lambda row: row["J&F"], reverse=not worst)
    chosen = list({(row["sequence"], row["object"]): row for row in reversed(ordered)}.values())[::-1]
    return sorted(chosen, key=lambda row: row["J&F"], reverse=not worst)[:3]


def sheet(chosen):
    labels = [
        [f"{row['sequence']}, frame {row['frame']}, truth", f"found, J {row['J']:.0%}, F {row['F']:.0%}"]
        for row in chosen
    ]
    return contact_sheet([compare(row) for row in chosen], labels, width=800)


Image.fromarray(sheet(extremes(worst=True)))

# %% [markdown]
# **Figure 3.** The worst frames of the three objects that have the worst ones: the truth on the left, what was
# found on the right. A plant hid parts of object 2 in the first frames, and pieces of ground beside it have taken
# its label. Object 1 has taken in a stone that it passed. Object 3 is whole; its F is low because other objects'
# outlines at its edge are found a little too far in or out.

# %%
Image.fromarray(sheet(extremes(worst=False)))

# %% [markdown]
# **Figure 4.** The best frames of the three objects that have the best ones: nothing hides them, and their colors
# are not those of the ground.
#
# ## Frame by frame
#
# The sequence with the lowest score, with J&F of its objects over time.

# %%
lowest = min(by_name, key=lambda name: np.mean([row["J&F"] for row in rows if row["sequence"] == name]))
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
for of in sorted({row["object"] for row in rows if row["sequence"] == lowest}):
    points = [(row["frame"], 100 * row["J&F"]) for row in rows if (row["sequence"], row["object"]) == (lowest, of)]
    axes.plot(*zip(*points, strict=True), label=f"object {of}")
axes.set(title=lowest, xlabel="frame", ylabel="J&F, %", ylim=(0, 100))
axes.legend()
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# **Figure 5.** J&F of the objects of that sequence from frame to frame. Object 2 is bad after six frames and stays
# so: what has once been remembered with a wrong label is looked up again.

# %%
video = by_name[lowest].source().read(range(length))


def side_by_side(frame):
    pair = [overlay(video[frame], ids) for ids in masks[lowest, frame]]
    return contact_sheet([pair], [[f"truth, frame {frame}", "found"]], width=1000)


shown = [1, length // 2, length - 2]
Sliders(side_by_side, contact_sheet([[side_by_side(t)] for t in shown], width=800), frame=range(length))

# %% [markdown]
# **Figure 6.** The same sequence in pictures: the pieces of green that come off object 2, and the stone beside
# object 1. Where a kernel runs, the slider shows each frame.
#
# ## Read next
#
# * On the command line: `vos-umec evaluate RESULTS --root DAVIS --json scores.json`, for the masks of any method.
# * `vos-umec horizon` measures how scores fall with the distance from the true masks.
# * `vos-umec submission` packs masks for the servers of DAVIS and YouTube-VOS.
