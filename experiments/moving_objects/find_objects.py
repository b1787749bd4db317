"""Find whole objects that move on their own in unlabelled videos, and write them as pseudo masks for training.

python experiments/moving_objects/find_objects.py PREPARED --out MASKS

README.md says how it finds them. Objects get ids from 1 on, the segments of all else ids from 11 on. Videos without
an object are left out. MASKS/sheet_0.png and so on show what was found.
"""

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from components import connected
from motion import moving_evidence
from numpy.typing import NDArray
from torch import Tensor

from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.clustering.video import cluster_keys, encode_frames, frame_window, video_seed
from vos_umec.data.index import VideoEntry, scan
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import DataError
from vos_umec.io.frames import Frame, resized
from vos_umec.models.encoder import Encoder
from vos_umec.models.model_file import load
from vos_umec.progress import progress
from vos_umec.viz.overlays import overlay
from vos_umec.viz.sheets import contact_sheet, save_picture

log = logging.getLogger(__name__)

FRAMES, GAP, SHORT_SIDE = 24, 2, 240
MOST_OBJECTS, FIRST_SEGMENT = 4, 11
"""Objects of a video, with ids 1 to 4; id of the first segment of what is no object."""
STEPS = (4, 2)  # frames of the window between which motion is looked for; the second where the first is too far
NOISE = 1.8  # cells; where matches are farther from the motion of the whole picture, the camera is too fast
EVIDENCE, MOVING = 0.05, 0.3  # of a cell that moves; part of a segment's cells that do
AREA = (0.004, 0.4)  # of the frame, over all frames
STILL = 0.65  # part of an object's cells that may not move
PRESENT = 0.4  # of the frames show the object
JUMP = 0.08  # of the frame's diagonal, which the centre may move from one frame to the next
GROWTH = 1.7  # factor by which the area may change from one frame to the next
_ROWS = 12  # videos on a sheet


@dataclass
class Found:
    """What was found in a video.

    Attributes:
        reason: Why it has no object, or "kept".
        step: Frames between those that were compared.
        residual: Mean distance of the matches from the motion of the whole picture, in cells.
        areas: Mean part of the frame of each object.
    """

    reason: str
    step: int = 0
    residual: float = 0.0
    areas: tuple[float, ...] = ()


class Keys:
    """Keys of the frames of a clip, made when they are asked for: most clips are dropped after a few frames."""

    def __init__(self, frames: Frame, encoder: Encoder) -> None:
        self.frames, self.encoder = frames, encoder
        self._known: dict[int, Tensor] = {}

    def of(self, t: int) -> Tensor:
        """Keys (D, h, w) of one frame."""
        if t not in self._known:
            self._known[t] = encode_frames(self.frames[t : t + 1], self.encoder, torch.device("cpu"))[0].float()
        return self._known[t]

    def all(self) -> Tensor:
        """Keys (T, D, h, w)."""
        return torch.stack([self.of(t) for t in range(len(self.frames))])


def moving_cells(keys: Keys) -> tuple[dict[int, NDArray[np.bool_]], Found]:
    """The cells (h, w) that move, of some frames by their number, and why there are none."""
    found = Found("too short")
    for step in STEPS:
        moving: dict[int, NDArray[np.bool_]] = {}
        residuals: list[float] = []
        for t, motion in moving_evidence(keys.of, len(keys.frames), step):
            residuals.append(motion.residual)
            moving[t] = (motion.evidence > EVIDENCE).numpy()
            found = Found("kept", step, float(np.mean(residuals)))
            if found.residual > (2 * NOISE if len(moving) == 1 else NOISE):
                found.reason = "the motion of the whole picture is noisy"
                break
            if np.mean([cells.mean() for cells in moving.values()]) < MOVING * AREA[0] / 2:
                return {}, Found("nothing moves", step, found.residual)
        if found.reason == "kept":
            return moving, found
    return {}, found


def objects_of(
    moving: dict[int, NDArray[np.bool_]], segments: NDArray[np.uint8], stride: int
) -> tuple[NDArray[np.uint8], str, tuple[float, ...]]:
    """Join the segments that move to objects.

    Args:
        moving: What `moving_cells` returned.
        segments: Space-time segments (T, H, W).
        stride: Pixels to a side of a cell.

    Returns:
        Ids of the objects (T, H, W), 0 where there is none; why there is none, or "kept"; part of the frame that
        each has.
    """
    H, W = segments.shape[1:]
    times = sorted(moving)
    h, w = moving[times[0]].shape
    rows = np.minimum(np.arange(h) * stride + stride // 2, H - 1)
    columns = np.minimum(np.arange(w) * stride + stride // 2, W - 1)
    cells = segments[:, rows[:, None], columns]  # (T, h, w)
    parts = connected(cells)
    seen = parts[times].ravel()
    of_all = np.bincount(seen, minlength=parts.max() + 1)
    of_moving = np.bincount(seen, weights=np.stack([moving[t] for t in times]).ravel(), minlength=len(of_all))
    chosen = ((of_all > 0) & (of_moving >= MOVING * of_all))[parts]  # (T, h, w)
    thick = _opened(chosen)
    joined = connected(thick.astype(np.uint8))
    sizes = np.bincount(joined[thick], minlength=1)
    ids, reason = np.zeros_like(cells), "no segment moves"
    areas: list[float] = []
    for number in np.argsort(-sizes)[: 2 * MOST_OBJECTS]:
        if sizes[number] < AREA[0] * cells.size or len(areas) == MOST_OBJECTS:
            break
        mask = joined == number
        still = 1 - np.mean(np.concatenate([moving[t][mask[t]] for t in times] or [0]))
        if fault := "it hardly moves" if still > STILL else _fault(mask):
            reason = fault if not areas else reason
            continue
        areas.append(float(mask.mean()))
        ids[mask] = len(areas)
    return _to_pixels(ids, cells, segments, stride), "kept" if areas else reason, tuple(areas)


def _opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks (T, h, w) without what is thinner than three cells."""
    return _grown(~_grown(~mask))


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks (T, h, w) and the cells beside them."""
    maps = torch.from_numpy(mask)[:, None].float()
    return F.max_pool2d(maps, 3, stride=1, padding=1)[:, 0].bool().numpy()


def _fault(mask: NDArray[np.bool_]) -> str:
    """Why a mask (T, h, w) is not that of an object; empty if it may be one."""
    area = mask.sum(axis=(1, 2))  # (T,)
    if mask.mean() > AREA[1]:
        return "it is too large"
    shown = np.flatnonzero(area)
    if len(shown) < PRESENT * len(mask):
        return "it is not there in most frames"
    places = np.stack([np.argwhere(mask[t]).mean(axis=0) for t in shown])  # (n, 2)
    next_frame = np.diff(shown) == 1
    moved = np.linalg.norm(np.diff(places, axis=0), axis=1)[next_frame] / np.hypot(*mask.shape[1:])
    grown = np.abs(np.diff(np.log(area[shown])))[next_frame]
    if moved.max(initial=0) > JUMP or np.quantile(grown, 0.9) > np.log(GROWTH):
        return "it jumps"
    return ""


def _to_pixels(
    ids: NDArray[np.uint8], cells: NDArray[np.uint8], segments: NDArray[np.uint8], stride: int
) -> NDArray[np.uint8]:
    """Objects on cells to pixels: those of the object's segments in its cells and in the cells beside them."""
    H, W = segments.shape[1:]
    out = np.zeros_like(segments)
    for number in range(int(ids.max()), 0, -1):  # the largest object last
        near = torch.from_numpy(_grown(ids == number))[:, None].float()
        # Bilinear, so that where the cells end the object, it has no stairs.
        near = F.interpolate(near, scale_factor=stride, mode="bilinear", align_corners=False)[:, 0, :H, :W] > 0.5
        out[near.numpy() & np.isin(segments, np.unique(cells[ids == number]))] = number
    return out


def process(
    entry: VideoEntry, encoder: Encoder, clusterer: SpaceTimeClusterer
) -> tuple[Found, NDArray[np.int64], Frame, NDArray[np.uint8]]:
    """What was found in a video, frame numbers (T,), frames (T, H, W, 3), and the ids to store (T, H, W)."""
    source, seed = entry.source(), video_seed(entry.id, 1)
    indices = frame_window(len(source), FRAMES, GAP, seed)
    frames = source.read(indices.tolist(), resized(source.size, SHORT_SIDE))
    keys, ids = Keys(frames, encoder), np.zeros(frames.shape[:3], np.uint8)
    moving, found = moving_cells(keys)
    if moving:
        size = (frames.shape[1], frames.shape[2])
        segments = cluster_keys(keys.all(), clusterer, size, encoder.stride, seed).segments
        objects, found.reason, found.areas = objects_of(moving, segments, encoder.stride)
        ids = np.where(objects > 0, objects, segments + FIRST_SEGMENT).astype(np.uint8)
    return found, indices, frames, ids


def main() -> None:
    """Read the command line, and write masks, `found.json` and the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder that vos-umec prepare wrote, or any folder of videos")
    parser.add_argument("--out", type=Path, required=True, help="folder of the masks, for --data.store of training")
    parser.add_argument("--every", type=int, default=1, help="take every so manyth video, for a first look")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    encoder, clusterer = load().encoder, SpaceTimeClusterer(clusters=16, position_weight=0.35)
    store = PseudoMaskStore(options.out)
    generation = store.next
    store.begin(generation)
    facts: dict[str, Found] = {}
    rows: list[list[Frame]] = []
    labels: list[list[str]] = []
    for entry in progress(scan(options.videos).entries[:: options.every], "finding objects"):
        try:
            found, indices, frames, ids = process(entry, encoder, clusterer)
        except DataError as error:
            log.warning("%s is left out: %s", entry.id, error)
            continue
        facts[entry.id] = found
        if found.reason != "kept":
            continue
        store.write(generation, entry.id, indices, ids)
        shown = np.linspace(0, len(frames) - 1, 5).astype(int)
        rows.append([overlay(frames[t], np.where(ids[t] < FIRST_SEGMENT, ids[t], 0)) for t in shown])
        labels.append([entry.id, *[""] * 4])
    store.commit(generation, {"made_by": "experiments/moving_objects/find_objects.py"})
    (options.out / "found.json").write_text(
        json.dumps({id_: asdict(found) for id_, found in facts.items()}, indent=1)
    )
    for sheet in range(0, len(rows), _ROWS):
        picture = contact_sheet(rows[sheet : sheet + _ROWS], labels[sheet : sheet + _ROWS], width=1500)
        save_picture(options.out / f"sheet_{sheet // _ROWS}.png", picture)
    print(f"{len(rows)} of {len(facts)} videos have a moving object; masks and pictures in {options.out}")


if __name__ == "__main__":
    main()
