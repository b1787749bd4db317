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
# # The model of the package
#
# No training here: the model that comes with the package follows objects through a video from one mask. Its card,
# `docs/model_card.md`, says what it was trained on and how well it does.

# %%
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vos_umec
from vos_umec.clustering import SpaceTimeClusterer, cluster_video
from vos_umec.training import SequenceEvaluation, load_module, score_table
from vos_umec.viz import contact_sheet, overlay, segment_sheet

OUT = Path(os.environ.get("VOS_UMEC_OUT", "../runs/ready_model"))
FRAMES = 40 if int(os.environ.get("VOS_UMEC_EPOCHS", "12")) > 2 else 8  # fewer for a quicker look

# %% [markdown]
# ## A video and the mask of its first frame
#
# Made here, so that the notebook needs no file. For a video of your own: `source = vos_umec.open_source("my.mp4")`
# and `first = vos_umec.read_mask("first.png")`.

# %%
made = vos_umec.SyntheticVOS(OUT / "videos", train_videos=1, val_videos=1, frames=FRAMES, size=(240, 432), seed=3)
made.prepare()
sequence = made.val_sequences()[0]
source = sequence.source()
first = vos_umec.read_mask(sequence.annotations[0])
Image.fromarray(overlay(source.read([0])[0], first))

# %% [markdown]
# ## Every object, frame by frame

# %%
segmenter = vos_umec.load_segmenter()
results = [overlay(source.read([i])[0], ids) for i, ids in segmenter.segment(source, {0: first})]
shown = np.linspace(0, len(source) - 1, 5).round().astype(int)
Image.fromarray(contact_sheet([[results[i] for i in shown]]))

# %% [markdown]
# ## What refinement is worth
#
# With `rounds=0` the masks are propagated by the affinity alone (label propagation). The first baseline copies the
# first mask. J&F is by the rules of DAVIS 2017.

# %%
module = load_module()
evaluation = SequenceEvaluation(module.network, module.evaluation.segmenter, baselines=True)
evaluation.update(sequence)
score_table(evaluation.rows())

# %% [markdown]
# ## What the encoder sees
#
# Its keys, clustered in space and time without any mask. In training such clusters are the pseudo masks.

# %%
frame_indices = list(range(0, len(source), max(1, len(source) // 8)))
clusterer = SpaceTimeClusterer(clusters=5)
E, device = module.network.encoder, torch.device("cpu")
found, frames = cluster_video(source, E, clusterer, frame_indices, short_side=240, seed=0, device=device)
Image.fromarray(segment_sheet(frames, found.segments))
