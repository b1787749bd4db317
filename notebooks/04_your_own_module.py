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
# # 4. Your own module
#
# You will change three parts of a training: the encoder, which becomes a network of timm; the loss, which becomes
# one of your own; and the learning rate, by overriding a method of the module. Then you will see whether the keys
# have learnt anything. It takes two to three minutes on two CPU cores, and needs `pip install 'vos-umec[timm]'`.

# %%
import csv
import logging
import os
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image

import vos_umec
from vos_umec.clustering import encode_frames
from vos_umec.training import SequenceEvaluation, score_table
from vos_umec.viz import contact_sheet, key_colors

SMALL = os.environ.get("VOS_UMEC_SMALL")  # a folder: then all is tiny and written there, for a quick check
OUT = Path(SMALL or "../runs/notebooks")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # what it says of devices fills a page
warnings.filterwarnings("ignore", module="pytorch_lightning")

# %% [markdown]
# ## An encoder of timm
#
# `TimmEncoder` makes an encoder of a backbone of timm, with random weights. Here a small ResNet is read after the
# stage of stride 8, and a 1x1 convolution makes keys of 64 numbers. Without `preset` there is no decoder: the
# encoder is the whole network, and labels are propagated by its keys alone.

# %%
network = {
    "encoder": {
        "class_path": "vos_umec.TimmEncoder",
        "init_args": {"name": "resnet10t", "layer": 2, "key_dim": 64},
    }
}
vos_umec.build_network(network).encoder.stride

# %% [markdown]
# For another backbone change the name: `"vit_small_patch16_224.dino"`, `"convnext_tiny"`. To start from published
# weights, give the module `init_from={"encoder": FILE, "used_labels": False}`. An encoder of your own is a subclass
# of `vos_umec.Encoder` with four attributes and `forward`.
#
# ## A loss of your own
#
# An objective gets a batch of clips whose frames are encoded when it asks for them. It returns the loss, and what
# else should be logged. This one says: from one frame to the next, a cell should be more like the same place than
# like any place farther than two cells away. It never asks what moves, and is wrong where something moves far.


# %%
class SamePlace(vos_umec.CorrespondenceObjective):
    """A cell resembles the same place one frame later more than places farther than `radius` cells away."""

    def __init__(self, radius: int = 2, tau: float = 0.1) -> None:
        super().__init__()
        self.radius, self.tau = radius, tau

    def forward(self, clip):
        clip.require_frames(2, "SamePlace")
        h, w = clip.keys.shape[3:]  # keys (B, T, D, h, w)
        now, later = (
            part.flatten(0, 1).flatten(2) for part in (clip.keys[:, :-1], clip.keys[:, 1:])
        )  # (n, D, h*w)
        scores = torch.einsum("ndp,ndq->npq", now, later) / self.tau
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        place = torch.stack((y, x), dim=-1).view(-1, 2).float()
        distance = torch.cdist(place, place)  # (h*w, h*w)
        near = ((distance > 0) & (distance <= self.radius)).to(scores.device)
        scores = scores.masked_fill(near, -torch.inf)  # neighbors may be alike: they do not count
        right = torch.arange(h * w, device=scores.device).expand(len(scores), -1)
        return {
            "loss": F.cross_entropy(scores.transpose(1, 2), right),
            "found": (scores.argmax(dim=2) == right).float().mean(),
        }


# %% [markdown]
# ## A module that overrides two hooks
#
# `build_objectives` says which losses there are. `configure_optimizers` says how fast the network learns. There are
# three more: `build_network`, `correspondence_step` and `segmentation_step`. All else stays the module's own.


# %%
class MyModule(vos_umec.UMECModule):
    """Learns by SamePlace, with a learning rate that rises and falls once."""

    def build_objectives(self):
        return [SamePlace()]

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()["optimizer"]
        steps = self.trainer.estimated_stepping_batches
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.hparams["learning_rate"], steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


# %% [markdown]
# In a script, such classes lie in a file, and YAML names them: `class_path: my_module.MyModule`.
#
# ## Train
#
# On synthetic videos. `run_length` and `gap` say which frames make a clip: here three frames in a row.

# %%
pl.seed_everything(0, verbose=False)
size = (64, 96) if SMALL else (160, 288)
data = vos_umec.SyntheticDataModule(
    str(OUT / "videos"),
    train_videos=2 if SMALL else 12,
    val_videos=1 if SMALL else 3,
    frames=8 if SMALL else 24,
    size=size,
    video_seed=9,
    clip_length=3,
    gap=1,
    short_side=size[0],
    crop=32 if SMALL else 128,
    crop_scale=(0.6, 1.0),
    batch_size=2 if SMALL else 8,
    clips_per_video=1 if SMALL else 8,
    num_workers=0 if SMALL else None,
)
module = MyModule(network=network, learning_rate=2e-3)
untrained = module.build_network()
untrained.load_state_dict(module.network.state_dict())
trainer = pl.Trainer(
    max_epochs=1 if SMALL else 8,
    logger=pl.loggers.CSVLogger(OUT, name="your_own_module"),
    callbacks=[pl.callbacks.LearningRateMonitor("step")],
    accelerator="cpu",
    limit_val_batches=0,
    log_every_n_steps=1 if SMALL else 3,
    enable_model_summary=False,
    enable_checkpointing=False,
)
trainer.fit(module, datamodule=data)

# %%
with (Path(trainer.log_dir) / "metrics.csv").open() as file:
    lines = list(csv.DictReader(file))
figure, axes = plt.subplots(1, 3, figsize=(10, 2.7), layout="constrained")
for each, (name, title) in zip(
    axes,
    {"train/loss": "loss", "train/found": "cells that are found", "lr-Adam": "learning rate"}.items(),
    strict=True,
):
    column = next((key for key in lines[0] if key.startswith(name)), name)
    points = np.array([(int(line["step"]), float(line[column])) for line in lines if line.get(column)])
    each.plot(*points.T)
    each.set(title=title, xlabel="step", ylim=(0, None))
    each.grid(alpha=0.3)
plt.show()

# %% [markdown]
# **Figure 1.** The loss, the part of the cells whose best match is the same place one frame later, and the learning
# rate, which the overridden hook lets rise and fall.
#
# ## What the keys look like, before and after

# %%
sequence = data.sequences[0]
frames = sequence.source().read(np.linspace(0, len(sequence.source()) - 1, 4).round().astype(int).tolist())
rows = [list(frames)]
for each in (untrained, module.network):
    keys = encode_frames(frames, each.encoder, torch.device("cpu")).float().numpy()
    rows.append(list(key_colors(keys).repeat(4, axis=1).repeat(4, axis=2)))
labels = [["a held-out video", "", "", ""], ["untrained", "", "", ""], ["trained", "", "", ""]]
Image.fromarray(contact_sheet(rows, labels, width=1000))

# %% [markdown]
# **Figure 2.** Four frames, and the keys of their cells as colors (the three directions in which they vary most).
# Untrained keys are hardly more than blurred colors of the frame, and speckled. Trained ones are smooth, and change
# slowly from frame to frame, as the loss asks. They are not yet good: bands run across several things, and the dark
# one stays at its place in the picture while the things move. A loss of same places also rewards keys that know
# places.
#
# ## What it is worth
#
# Label propagation by both encoders, on the held-out videos.

# %%
settings = {"rounds": 0, "references": 7, "readout": {"radius": 8, "permanent_radius": 16}}
rows = {}
for name, each in {"untrained": untrained, "trained": module.network}.items():
    evaluation = SequenceEvaluation(each, settings, baselines=True)
    for sequence in data.sequences:
        evaluation.update(sequence)
    found = evaluation.rows()
    rows |= {"copy_first_mask": found["copy_first_mask"], name: found["label_propagation"]}
score_table(rows)

# %% [markdown]
# Untrained keys do no better than copying the first mask. Two minutes of training make much of the difference, and
# leave the score far below what `01_first_steps` shows.
#
# ## Read next
#
# * `05_results`: compare runs, and several seeds of each.
# * [CONTRIBUTING.md](../CONTRIBUTING.md), "Three walks for a newcomer": objectives and encoders for the package.
# * `configs/schemas/` has a configuration for each objective of the package.
