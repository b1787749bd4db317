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
# # 5. Results
#
# You will look at a run: its curves, its score while it learns, and J&F frame by frame. Then you will make a table
# and a figure of an ablation, with the runs that this project has measured. It takes about three minutes on two CPU
# cores.

# %%
import csv
import json
import logging
import os
import warnings
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytorch_lightning as pl
from PIL import Image
from rich.table import Table

import vos_umec
from vos_umec.metrics import SequenceScorer
from vos_umec.viz import contact_sheet, overlay

SMALL = os.environ.get("VOS_UMEC_SMALL")  # a folder: then all is tiny and written there, for a quick check
OUT = Path(SMALL or "../runs/notebooks")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # what it says of devices fills a page
warnings.filterwarnings("ignore", module="pytorch_lightning")

# %% [markdown]
# ## Two runs
#
# Both learn correspondence by dense contrast. One of them gets pseudo masks after two epochs, so that its decoder
# learns, too. Each is scored on two held-out videos after every second epoch. Real runs take hours; these are as
# short as shows something.

# %%
size = (64, 96) if SMALL else (128, 224)


def train(name, refresh):
    pl.seed_everything(0, verbose=False)
    data = vos_umec.SyntheticDataModule(
        str(OUT / "videos"),
        train_videos=2 if SMALL else 8,
        val_videos=1 if SMALL else 2,
        frames=8 if SMALL else 20,
        size=size,
        video_seed=10,
        short_side=size[0],
        crop=32 if SMALL else 96,
        crop_scale=(0.6, 1.0),
        batch_size=2 if SMALL else 8,
        clips_per_video=1 if SMALL else 4,
        num_workers=0 if SMALL else None,
    )
    module = vos_umec.UMECModule(
        network="tiny",
        objectives=[{"class_path": "vos_umec.DenseContrastObjective"}],
        segmentation={"max_objects": 2, "queries": 1},
        evaluation={
            "segmenter": {"rounds": 2 if refresh else 0, "references": 5, "readout": {"permanent_radius": 20}}
        },
        learning_rate=1e-3,
        halve_every=4,
    )
    trainer = pl.Trainer(
        max_epochs=2 if SMALL else 6,
        logger=pl.loggers.CSVLogger(OUT, name=name),
        callbacks=[vos_umec.PseudoMaskRefresh(2, 1 if SMALL else 2, short_side=size[0], frames_per_video=12)]
        * refresh,
        accelerator="cpu",
        gradient_clip_val=1.0,
        check_val_every_n_epoch=2,
        num_sanity_val_steps=0,
        log_every_n_steps=1 if SMALL else 2,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, datamodule=data)
    return module, data, Path(trainer.log_dir)


runs = {"correspondence alone": train("alone", False), "with pseudo masks": train("masks", True)}

# %% [markdown]
# ## Curves
#
# `CSVLogger` writes a line whenever something is logged, and leaves out what is not. `step` is the same in all
# lines.


# %%
def read_curves(folder):
    """Each figure of a run: steps and values."""
    curves = defaultdict(list)
    with (folder / "metrics.csv").open() as file:
        for line in csv.DictReader(file):
            for name, value in line.items():
                if value and name not in ("step", "epoch"):
                    curves[name].append((int(line["step"]), float(value)))
    return {name: np.array(points).T for name, points in curves.items()}


figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for name, (_, _, folder) in runs.items():
    curves = read_curves(folder)
    axes[0].plot(*curves["train/loss"], label=name)
    if "train/seg" in curves:
        axes[1].plot(*curves["train/seg"], color="C1")
    steps, score = curves["val/J&F"]
    axes[2].plot(steps, 100 * score, "o-", label=name)
axes[0].set(title="loss of all objectives", xlabel="step")
axes[1].set(title="loss of the masks", xlabel="step")
axes[2].set(title="J&F of held-out videos, %", xlabel="step")
axes[0].legend()
for each in axes:
    each.grid(alpha=0.3)
plt.show()

# %% [markdown]
# **Figure 1.** Left: the orange loss is a sum of one more term, so the two cannot be compared. Middle: the loss of
# the masks alone, from the first refresh on; it may rise at a refresh, because the masks change. Right: what
# counts. At the end the two runs differ by less than a point, which with two videos and one seed means nothing.
#
# ## J&F by frame
#
# `SequenceScorer` scores one frame at a time. Its `frame_rows` say where an object is lost. We compare three
# methods on one of the held-out videos: the run with pseudo masks, its encoder alone, and copying the first mask.

# %%
module, data, _ = runs["with pseudo masks"]
sequence = data.sequences[0]
source, first = sequence.source(), sequence.prompt_masks()
truths = [vos_umec.read_mask(path) for _, path in sorted(sequence.annotations.items())]
settings = module.evaluation.segmenter
found = {"first mask, copied": [first[0]] * len(truths)}
for name, rounds in {"label propagation": 0, "whole model": 2}.items():
    segmenter = vos_umec.VideoSegmenter(module.network, **{**settings, "rounds": rounds})
    found[name] = [ids for _, ids in segmenter.segment(source, first)]

rows = {}
for name, masks in found.items():
    scorer = SequenceScorer(sequence.name)
    for mask, truth in zip(masks, truths, strict=True):
        scorer.update(mask, truth)
    rows[name] = scorer.frame_rows()

objects = sorted({row["object"] for row in rows["whole model"]})
figure, axes = plt.subplots(
    1, len(objects), figsize=(4 * len(objects), 2.9), sharey=True, squeeze=False, layout="constrained"
)
for each, of in zip(axes[0], objects, strict=True):
    for name, some in rows.items():
        points = [(row["frame"], 100 * row["J&F"]) for row in some if row["object"] == of]
        each.plot(*zip(*points, strict=True), label=name)
    each.set(title=f"object {of}", xlabel="frame", ylim=(0, 100))
    each.grid(alpha=0.3)
axes[0, 0].set_ylabel("J&F, %")
axes[0, 0].legend(fontsize="small")
plt.show()

# %% [markdown]
# **Figure 2.** J&F of each object from frame to frame. Object 1 is lost within four frames by label propagation;
# the decoder holds a part of it. The other two are followed better without the decoder, which has hardly been
# trained.

# %%
worst = min(rows["whole model"], key=lambda row: row["J&F"])
t = worst["frame"]
(frame,) = source.read([t])
pictures = {"truth": truths[t], **{name: masks[t] for name, masks in found.items()}}
Image.fromarray(
    contact_sheet(
        [[overlay(frame, ids) for ids in pictures.values()]],
        [[f"{name}, frame {t}" if name == "truth" else name for name in pictures]],
        width=1000,
    )
)

# %% [markdown]
# **Figure 3.** The frame in which the whole model is worst, at object 1 (red): too large a piece, where label
# propagation has almost nothing. The decoder also lets object 3 (yellow) grow over its outline.
#
# ## A table of an ablation
#
# `experiments/ablate.py` trains and scores a set of configurations, its *cells*, over several seeds, and writes a
# `result.json` for each. Here are those behind the project's own table 4f: each way of learning correspondence, ten
# minutes of one CPU core, alone and followed by pseudo masks (`_seg`), scored on seven sequences of DAVIS 2017 val.

# %%
scores = defaultdict(dict)  # by cell and method: a list over seeds
by_sequence = {}
for path in sorted(Path("../experiments/measured/table_4f_10_minutes").glob("*/seed_*/result.json")):
    result = json.loads(path.read_text())
    for method, of in result["scores"].items():
        scores[result["cell"].removeprefix("4f_")].setdefault(method, []).append(100 * of["J&F"])
    sequences = result["scores"]["umec"]["sequences"]
    by_sequence.setdefault(result["cell"].removeprefix("4f_"), []).append([100 * x for x in sequences.values()])

table = Table(
    "cell", "seeds", caption="J&F in per cent, mean over seeds, and half their range", caption_justify="left"
)
for name in ("label propagation", "whole model"):
    table.add_column(name, justify="right")
order = sorted(scores, key=lambda cell: -np.mean(scores[cell]["umec"]))
for cell in order:
    figures = [scores[cell][method] for method in ("label_propagation", "umec")]
    table.add_row(cell, str(len(figures[0])), *(f"{np.mean(x):.1f} ± {np.ptp(x) / 2:.1f}" for x in figures))
table

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1, 1.3], layout="constrained")
for place, cell in enumerate(reversed(order)):
    axes[0].barh(place, np.mean(scores[cell]["umec"]), color="C0" if cell.endswith("_seg") else "C7", alpha=0.6)
    axes[0].plot(scores[cell]["umec"], [place] * len(scores[cell]["umec"]), "k.", markersize=7)
copied = np.mean(scores[order[0]]["copy_first_mask"])
axes[0].axvline(copied, color="C3", linestyle=":")
axes[0].text(copied + 1, len(order) - 0.4, "first mask, copied", color="C3", fontsize="small")
axes[0].set_yticks(range(len(order)), reversed(order))
axes[0].set(title="J&F, %", xlim=(0, 80), ylim=(-0.6, len(order) + 0.3))
means = np.array([np.mean(by_sequence[cell], axis=0) for cell in order])
image = axes[1].imshow(means, cmap="viridis", vmin=0, vmax=100, aspect="auto")
axes[1].set_yticks(range(len(order)), order)
axes[1].set_xticks(range(len(sequences)), sequences, rotation=30, ha="right")
for (i, j), value in np.ndenumerate(means):
    axes[1].text(
        j, i, f"{value:.0f}", ha="center", va="center", color="white" if value < 60 else "black", fontsize="small"
    )
axes[1].set_title("by sequence, %")
plt.show()

# %% [markdown]
# **Figure 4.** Left: means (bars) and seeds (dots); blue bars are trainings that ended with pseudo masks, `ours` is
# the equivariance of UMEC. With so little time pseudo masks do not pay: the three best ways lose a little by them.
# Seeds of one cell differ by up to some points, and there are two of each, so smaller differences between cells say
# nothing. Right: sequences differ as much as methods do. `drift-chicane`, whose object is tiny at first, moves the
# mean most.
#
# ## Read next
#
# * [docs/results.md](../docs/results.md) has all tables, [docs/conclusions.md](../docs/conclusions.md) the lessons.
# * `python experiments/ablate.py CELLS --davis DAVIS` makes such a table of your own cells.
# * `06_evaluate`: the same scores from folders of masks.
