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
# # 1. First steps
#
# You will follow objects through a video from one mask, with the small model that comes with the package. You will
# add an object on the way, score the result, and see what it is made of. Nothing is trained here. It takes one to
# two minutes on two CPU cores.

# %%
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vos_umec
from vos_umec.clustering import SpaceTimeClusterer, cluster_video
from vos_umec.training import SequenceEvaluation, load_module, score_table
from vos_umec.viz import Sliders, contact_sheet, overlay, segment_sheet

SMALL = os.environ.get("VOS_UMEC_SMALL")  # a folder: then all is tiny and written there, for a quick check
OUT = Path(SMALL or "../runs/notebooks")

# %% [markdown]
# ## A video, and the mask of its first frame
#
# The notebook makes a video, so that it needs no file. The objects bend, turn and hide each other, and the camera
# moves. For your own video write
#
# ```python
# source = vos_umec.open_source("my.mp4")  # or a folder of frames
# first = vos_umec.read_mask("first.png")  # 0 is background, 1, 2, ... are objects
# ```

# %%
size, frames = ((64, 96), 8) if SMALL else ((160, 288), 32)
made = vos_umec.SyntheticVOS(OUT / "video", 1, 1, frames, size, seed=10, objects=(2, 3))
made.prepare()
sequence = made.val_sequences()[0]
source = sequence.source()
first = vos_umec.read_mask(sequence.annotations[0])
(frame,) = source.read([0])
Image.fromarray(contact_sheet([[frame, overlay(frame, first)]], [["first frame", "with its mask"]], width=1000))

# %% [markdown]
# **Figure 1.** All that the model is given: the frame and one mask of two objects. On the left lies a twin of
# object 1 (red), of the same colors, which is not to be followed.
#
# ## Every object, frame by frame
#
# `load_segmenter` reads the model of the package. Any argument of `VideoSegmenter` can be changed in the call. Here
# the frames are small, and narrower windows of search make it quick.

# %%
settings = {"short_side": size[0], "readout": {"radius": 12, "permanent_radius": 30}}
segmenter = vos_umec.load_segmenter(**settings)
found = [ids for _, ids in segmenter.segment(source, {0: first})]
video = list(source.read(range(len(source))))
results = [overlay(frame, ids) for frame, ids in zip(video, found, strict=True)]
shown = np.linspace(0, len(source) - 1, 6).round().astype(int).reshape(2, 3)
pictures, labels = [[results[t] for t in row] for row in shown], [[f"frame {t}" for t in row] for row in shown]
still = contact_sheet(pictures, labels, width=1000)
Sliders(lambda frame: results[frame], still, start={"frame": 0}, frame=range(len(source)))

# %% [markdown]
# **Figure 2.** What the model makes of the other frames. It keeps object 1 apart from its twin. At the end the twin
# moves in front of object 2 (green), whose visible pieces are found, some of them too large. Where a kernel runs,
# the slider shows each frame.
#
# ## A mask on the way
#
# A mask may come with any frame, for new objects, or to correct those that are followed already: from there on it
# counts instead of the earlier one. Here we follow object 1 from the first frame, and object 2 from a later one.
# `step` takes one frame at a time, so a camera can deliver them, too.

# %%
segmenter.reset()
late = len(source) // 3
masks = {
    0: (first, [1]),
    late: (vos_umec.read_mask(sequence.annotations[late]), [2]),
}  # a mask, and which objects of it
followed = [segmenter.step(frame, *masks.get(t, (None, None))) for t, frame in enumerate(video)]
shown = [late - 1, late, late + len(source) // 3]
pictures = [overlay(video[t], followed[t]) for t in shown]
Image.fromarray(contact_sheet([pictures], [[f"frame {t}" for t in shown]], width=1000))

# %% [markdown]
# **Figure 3.** Object 2 is not known before frame 10, where its mask is given, and is followed from then on.
#
# ## Scores, and what the decoder adds
#
# J&F follows the rules of DAVIS 2017: J is the overlap of masks, F that of their outlines. Two baselines stand
# beside the model. The first one copies the first mask into every frame. Label propagation is the encoder alone,
# without refinement (`rounds=0`).

# %%
module = load_module()
evaluation = SequenceEvaluation(module.network, {**module.evaluation.segmenter, **settings}, baselines=True)
evaluation.update(sequence)
score_table(evaluation.rows())

# %% [markdown]
# ## What the encoder sees
#
# The encoder gives each cell of 4 x 4 pixels a *key*. Cells that show the same thing should have similar keys. Here
# the keys of the video are clustered in space and time, without any mask. In training such clusters are the *pseudo
# masks* that the rest of the network learns from.

# %%
every = list(range(0, len(source), max(1, len(source) // 8)))
segments, read = cluster_video(
    source,
    module.network.encoder,
    SpaceTimeClusterer(clusters=6),
    every,
    size[0],
    seed=0,
    device=torch.device("cpu"),
)
Image.fromarray(segment_sheet(read, segments.segments))

# %% [markdown]
# **Figure 4.** Six clusters of the keys. The violet object and its twin are one cluster, for they look the same.
# Object 2 shares its cluster with some stones, and the ground falls into pieces. Nobody told the network what an
# object is.
#
# ## Read next
#
# * `02_your_own_videos`: train such a network from random weights on a folder of videos.
# * `03_what_the_affinity_sees`: choose a pixel and see where its label comes from.
# * On the command line: `vos-umec segment my.mp4 --mask first.png --out out`.
# * [The model's card](../docs/model_card.md) says what it was trained on, and what it does badly.
