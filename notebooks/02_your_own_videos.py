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
# # 2. Your own videos
#
# You will train a small network on a folder of videos without any label. You will watch how its pseudo masks change
# while it learns, and segment a video that it has not seen. It takes three to four minutes on two CPU cores, so
# expect a first result and not a good one.

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
from PIL import Image

import vos_umec
from vos_umec.clustering import cluster_video
from vos_umec.training import SequenceEvaluation, score_table
from vos_umec.viz import Sliders, contact_sheet, overlay, segment_sheet

SMALL = os.environ.get("VOS_UMEC_SMALL")  # a folder: then all is tiny and written there, for a quick check
OUT = Path(SMALL or "../runs/notebooks")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # what it says of devices fills a page
warnings.filterwarnings("ignore", module="pytorch_lightning")

# %% [markdown]
# ## A folder of videos
#
# Here the folder is made: 12 videos of 28 frames, as h264 files. Two more videos have masks. They are only used to
# score the result. To train on yours, set `my_videos` to any folder with videos or folders of frames, at any depth.

# %%
pl.seed_everything(0, verbose=False)
if SMALL:
    made = vos_umec.SyntheticVOS(OUT / "videos", 2, 1, frames=8, size=(64, 96))
else:
    made = vos_umec.SyntheticVOS(OUT / "videos", 12, 2, frames=28, size=(160, 288), seed=5, objects=(2, 3))
made.prepare()
my_videos = made.train_root
paths = sorted(my_videos.glob("*.mp4"))[:8]
pictures = [vos_umec.open_source(path).read([0])[0] for path in paths]
Image.fromarray(contact_sheet([pictures[:4], pictures[4:]], width=1000))

# %% [markdown]
# **Figure 1.** The first frames of eight of the videos. No mask of them exists.
#
# ## What is trained, and on what
#
# The data module reads clips of five frames and crops them. The module holds the network and its losses. At first
# the *encoder* learns which places of two frames belong together (dense contrast). After four epochs
# `PseudoMaskRefresh` clusters each video, and from then on the *frame-mask encoder* and the *decoder* learn to
# carry the clusters from frame to frame. Every two epochs it clusters again with what the encoder has learnt since.

# %%
warmup, epochs = (1, 2) if SMALL else (4, 8)
data = vos_umec.VideoFolderDataModule(
    str(my_videos),
    short_side=64 if SMALL else 144,
    crop=32 if SMALL else 96,
    crop_scale=(0.6, 1.0),
    batch_size=2 if SMALL else 8,
    clips_per_video=1 if SMALL else 4,
    num_workers=0 if SMALL else None,
)
segmenting = {"rounds": 3, "references": 7, "readout": {"permanent_radius": 24}}
module = vos_umec.UMECModule(
    network="tiny",
    objectives=[{"class_path": "vos_umec.DenseContrastObjective"}],
    segmentation={"max_objects": 2, "queries": 1},
    evaluation={"segmenter": segmenting},
    learning_rate=1e-3,
    weight_decay=1e-4,
    halve_every=4,
)
refresh = vos_umec.PseudoMaskRefresh(
    warmup_epochs=warmup, every_n_epochs=2, clusters=5, frames_per_video=12, short_side=64 if SMALL else 144
)

# %% [markdown]
# A refresh draws another part of each video every time. To compare the pseudo masks of one and the same part, a
# callback clusters it at the start, at each refresh and at the end, as the refresh does.


# %%
class Watch(pl.Callback):
    """Clusters one video again and again."""

    def __init__(self, path, frames):
        self.path, self.frames, self.segments = path, frames, {}

    def look(self, trainer, module):
        result, self.pictures = cluster_video(
            vos_umec.open_source(self.path), module.network.encoder, refresh.build_clusterer(), self.frames,
            short_side=refresh.short_side, seed=0, device=torch.device("cpu"),
        )  # fmt: skip
        self.segments[trainer.current_epoch] = result.segments

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 0 or refresh.due(trainer.current_epoch) == trainer.current_epoch:
            self.look(trainer, module)

    on_train_end = look


watch = Watch(paths[1], list(range(0, 8 if SMALL else 28, 3)))
logger = pl.loggers.CSVLogger(OUT, name="your_own_videos")
trainer = pl.Trainer(
    max_epochs=epochs,
    logger=logger,
    callbacks=[refresh, watch],
    accelerator="cpu",
    gradient_clip_val=1.0,
    log_every_n_steps=1 if SMALL else 4,
    enable_model_summary=False,
)
trainer.fit(module, datamodule=data)

# %%
with (Path(logger.log_dir) / "metrics.csv").open() as file:
    lines = list(csv.DictReader(file))


def curve(name):
    points = [(int(line["step"]), float(line[name])) for line in lines if line.get(name)]
    return np.array(points).reshape(-1, 2).T


figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].plot(*curve("train/loss"), label="all losses")
axes[0].plot(*curve("train/seg"), label="masks (L_seg)")
axes[0].set(xlabel="step", ylabel="loss", title="losses")
for name in ("consistency", "position", "entropy"):
    axes[1].plot(*curve(f"segments/{name}"), "o-", label=name)
axes[1].set(xlabel="step", ylim=(0, 1.05), title="health of the pseudo masks")
for each in axes:
    each.legend()
    each.grid(alpha=0.3)
plt.show()

# %% [markdown]
# **Figure 2.** Left: the loss of the masks joins the others at the first refresh, and falls. Right: figures of each
# refresh, means over all videos. *Consistency* is how many cells keep their segment in the next frame. *Position*
# is how much of the clustering follows places instead of looks; near 1 the segments would be plain tiles. *Entropy*
# is 1 if all segments have the same size.
#
# ## The pseudo masks, from refresh to refresh

# %%
sheets = [segment_sheet(watch.pictures[::3], segments[::3]) for segments in watch.segments.values()]
labels = [[f"after {epoch} epochs"] for epoch in watch.segments]
half = sheets[0].shape[0] // 2  # its upper half shows the frames, its lower half the segments
rows = [[sheets[0][:half]], *([sheet[half:]] for sheet in sheets)]
Image.fromarray(contact_sheet(rows, [[""], *labels], width=1000))

# %% [markdown]
# **Figure 3.** The same frames with the clusters of the untrained encoder, of the two refreshes, and of the end.
# Colors are numbers of clusters and mean nothing across rows. Untrained clusters are large areas that cut through
# things. After four epochs the dark creature is a cluster of its own with the leaf beside it, and follows its
# outline. Much of the ground is still in scattered pieces.
#
# ## Segment a video that it has not seen
#
# A checkpoint holds all that is needed: `load_segmenter` builds the network and takes over the settings.

# %%
checkpoint = Path(logger.log_dir) / "last.ckpt"
trainer.save_checkpoint(checkpoint)
segmenter = vos_umec.load_segmenter(checkpoint)
sequence = made.val_sequences()[0]
source = sequence.source()
frames = list(source.read(range(len(source))))
found = [ids for _, ids in segmenter.segment(source, sequence.prompt_masks())]
truths = [vos_umec.read_mask(path) for _, path in sorted(sequence.annotations.items())]
pairs = [
    contact_sheet([[overlay(frame, truth), overlay(frame, ids)]], [["truth", f"found, frame {t}"]], width=1000)
    for t, (frame, truth, ids) in enumerate(zip(frames, truths, found, strict=True))
]
shown = np.linspace(0, len(frames) - 1, 4).round().astype(int)[1:]
Sliders(
    lambda frame: pairs[frame],
    still=contact_sheet([[pairs[t]] for t in shown], width=1000),
    start={"frame": 0},
    frame=range(len(pairs)),
)

# %% [markdown]
# **Figure 4.** A held-out video, the truth on the left, what the network found on the right. Bodies are followed;
# the foot of the green object, which looks different, is lost, and pieces of ground take its label. Where a kernel
# runs, the slider shows each frame.
#
# ## Scores

# %%
evaluation = SequenceEvaluation(module.network, segmenting, baselines=True)
for sequence in made.val_sequences():
    evaluation.update(sequence)
score_table(evaluation.rows())

# %% [markdown]
# The encoder has learnt most of this: label propagation uses it alone. A decoder needs hours rather than minutes.
# See [what it scores](../docs/results.md) for longer trainings on real video.
#
# ## Read next
#
# * On the command line: `vos-umec fit --config configs/folder.yaml --data.root my_videos`, with settings for hours.
# * `03_what_the_affinity_sees`: how labels find their way from frame to frame.
# * `04_your_own_module`: change the losses, the network or the optimizer.
# * `05_results`: look at a run more closely.
