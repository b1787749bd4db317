"""Makes `docs/pictures/teaser.webp`: a made video, segmented by the model that comes with the package.

    python docs/pictures/teaser.py

The video is the first held-out one of a synthetic set, so it is not chosen for its result. Left: the video. Right:
the masks. Only the mask of the first frame is given. The model works at short side 240, which is five times faster
than its own 360. The script prints J&F against the true masks.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import vos_umec
from vos_umec.metrics import SequenceScorer

SIZE = (216, 384)
FRAMES = 40
GUTTER = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("teaser.webp"))
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic set")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = vos_umec.SyntheticVOS(
            folder, train_videos=1, val_videos=1, frames=FRAMES, size=SIZE, seed=arguments.seed, objects=(2, 3)
        )
        made.prepare()
        (sequence,) = made.val_sequences()
        segmenter = vos_umec.load_segmenter(short_side=240, readout={"radius": 12, "permanent_radius": 30})
        scorer, pictures = SequenceScorer(sequence.name), []
        for t, frame in enumerate(sequence.source().read(range(FRAMES))):
            truth = vos_umec.read_mask(sequence.annotations[t])
            ids = segmenter.step(frame, truth if t == 0 else None)
            scorer.update(ids, truth)
            gutter = np.full((frame.shape[0], GUTTER, 3), 255, np.uint8)
            pictures.append(Image.fromarray(np.hstack([frame, gutter, vos_umec.overlay(frame, ids)])))
    durations = [900] + [60] * (FRAMES - 2) + [900]
    pictures[0].save(
        arguments.out, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=40, method=6
    )
    for row in scorer.rows():
        print(f"object {row['object']}: J&F {100 * float(row['J&F']):.1f}")
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
