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
# # First steps
#
# From unlabelled video to masks, in minutes on two cores. We make some videos and train a small network on them
# without any label. Then we look at the pseudo masks that it learned from, segment a held-out video from one mask,
# and score the result.

# %%
import os
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image

import vos_umec
from vos_umec.training import SequenceEvaluation, score_table
from vos_umec.viz import contact_sheet, overlay, segment_sheet

EPOCHS = int(os.environ.get("VOS_UMEC_EPOCHS", "12"))  # fewer only make a quicker look, not a result
OUT = Path(os.environ.get("VOS_UMEC_OUT", "../runs/first_steps"))
SETTINGS = {"rounds": 3, "references": 7, "readout": {"permanent_radius": 24}}  # how to segment

# %% [markdown]
# ## Video without labels
#
# `SyntheticDataModule` makes h264 files and reads clips of them. For your own videos use
# `vos_umec.VideoFolderDataModule(root="my_videos")`. The rest stays the same, except for the held-out sequences,
# which need masks to be scored.

# %%
pl.seed_everything(0)
data = vos_umec.SyntheticDataModule(
    root=str(OUT / "videos"),
    train_videos=min(24, 4 * EPOCHS),
    val_videos=min(6, EPOCHS),
    frames=40 if EPOCHS > 2 else 12,
    short_side=160,
    crop=128,
    crop_scale=(0.6, 1.0),
    batch_size=8,
    clips_per_video=4 if EPOCHS > 2 else 2,
)
data.prepare_data()
data.setup("fit")
clips = [vos_umec.open_source(entry.path) for entry in data.index.entries[:3]]
Image.fromarray(contact_sheet([list(clip.read([0, 3, 6, 9, 11])) for clip in clips]))

# %% [markdown]
# ## Training
#
# For `warmup_epochs` the encoder learns correspondence alone. Then each video is clustered in space and time, and
# the clusters become pseudo masks. The frame-mask encoder and the decoder learn to propagate them from frame to
# frame. The clustering is repeated every few epochs.

# %%
third = max(1, EPOCHS // 3)
module = vos_umec.UMECModule(
    network="tiny",
    learning_rate=1e-3,
    weight_decay=1e-4,
    halve_every=third,
    evaluation={"segmenter": SETTINGS},
)
refresh = vos_umec.PseudoMaskRefresh(warmup_epochs=third, every_n_epochs=third, clusters=5)
logger = pl.loggers.CSVLogger(str(OUT), name="run")
trainer = pl.Trainer(
    max_epochs=EPOCHS, logger=logger, callbacks=[refresh], limit_val_batches=0, log_every_n_steps=5
)
trainer.fit(module, datamodule=data)

# %% [markdown]
# ## Pseudo masks
#
# The segments that the network learns to propagate. No label was read: each color is a cluster, and the numbers are
# random.

# %%
entry = data.index.entries[0]
frame_indices = data.store.frame_indices(entry.id)[::4]
segments = data.store.read(entry.id, frame_indices)
frames = vos_umec.open_source(entry.path).read(frame_indices.tolist(), segments.shape[1:])
Image.fromarray(segment_sheet(frames, segments))

# %% [markdown]
# ## Segmenting a held-out video from one mask
#
# One `step` a frame. Only the first frame has a mask, the prompt.

# %%
sequence = data.sequences[0]
source = sequence.source()
segmenter = vos_umec.VideoSegmenter(module.network, **SETTINGS)
results = []
for index in range(len(source)):
    (frame,) = source.read([index])
    mask = vos_umec.read_mask(sequence.prompts[index]) if index in sequence.prompts else None
    results.append(overlay(frame, segmenter.step(frame, mask)))
shown = np.linspace(0, len(source) - 1, 5).round().astype(int)
Image.fromarray(contact_sheet([[results[i] for i in shown]]))

# %% [markdown]
# ## Scores
#
# J&F by the rules of DAVIS 2017. Two baselines stand beside it: copying the first mask, and label propagation,
# which is the encoder alone.

# %%
evaluation = SequenceEvaluation(module.network, SETTINGS, baselines=True)
for sequence in data.sequences:
    evaluation.update(sequence)
score_table(evaluation.rows())
