"""Hostile files: each must end in one clear error or in nothing, run no code, write nowhere, take little memory."""

import json
import logging
import os
import pickle
import random
import struct
import sys
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from soak_row import Row

from vos_umec.data.davis import davis_sequences
from vos_umec.data.index import scan
from vos_umec.data.search import find_videos
from vos_umec.data.sequences import read_names
from vos_umec.data.youtube_vos import youtube_vos_meta
from vos_umec.errors import VosUmecError
from vos_umec.io.masks import read_mask
from vos_umec.io.result_zip import RequiredVideo, write_result_zip
from vos_umec.io.source import open_source
from vos_umec.models.description import KEY
from vos_umec.models.model_file import load, read_card
from vos_umec.models.weights import read_tensors

MOST_SECONDS, MOST_MEMORY = 20.0, 2048  # of one file; MiB above what the process had
Attack = Callable[[random.Random, Path], Callable[[], object]]
"""Writes a hostile file into a folder; returns what a user would do with it."""


def run(seed: int, minutes: float, folder: Path) -> list[Row]:
    """Try every attack, again and again with other numbers, for some minutes and at least once."""
    rng, end = random.Random(seed), time.monotonic() + 60 * minutes
    logging.getLogger("vos_umec").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    outside = folder / "outside"
    tried: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    longest, most = 0.0, 0
    number = 0
    while number == 0 or time.monotonic() < end:
        for part, attacks in ATTACKS.items():
            for attack in attacks:
                number += 1
                place = folder / f"{number:04d}"
                place.mkdir()
                tried[part] += 1
                wrong, seconds, memory = _try(attack, rng, place, outside)
                longest, most = max(longest, seconds), max(most, memory)
                if wrong:
                    lost[part] += 1
                    print(f"hostile files, seed {seed}: {attack.__name__}: {wrong}", file=sys.stderr)
    figures = f"at most {longest:.1f} s and {most} MiB a file"
    return [Row(f"hostile {part}", n, n - lost[part], lost[part], figures) for part, n in tried.items()]


def _try(attack: Attack, rng: random.Random, place: Path, outside: Path) -> tuple[str | None, float, int]:
    """What went wrong with one attack, its seconds, and MiB above what the process had."""
    os.environ["CANARY"] = str(outside)
    act, before = attack(rng, place), _memory()
    files, start, here = _files(place.parent), time.monotonic(), Path.cwd()
    wrong = None
    with _Peak() as peak:
        try:
            os.chdir(place)
            act()
        except VosUmecError as error:
            wrong = f"more than one line: {error}" if "\n" in str(error) else None
        except Exception as error:
            wrong = f"an error that is not ours: {type(error).__name__}: {error}"
        finally:
            os.chdir(here)
    seconds, memory = time.monotonic() - start, peak.most - before
    if outside.exists():
        wrong = "it ran code or wrote outside its folder"
        outside.unlink()
    new = {path for path in _files(place.parent) - files if place not in path.parents}
    if new:
        wrong = f"it wrote {sorted(new)[0]}"
    if seconds > MOST_SECONDS:
        wrong = f"it took {seconds:.0f} s"
    if memory > MOST_MEMORY:
        wrong = f"it took {memory} MiB"
    return wrong, seconds, memory


def _files(folder: Path) -> set[Path]:
    return {Path(top, name) for top, _, names in os.walk(folder) for name in names}


class _Peak:
    """The most memory that this process has while the block runs, looked at every few milliseconds."""

    def __enter__(self) -> "_Peak":
        self.most, self._ends = _memory(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ends.wait(0.005):
            self.most = max(self.most, _memory())

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()


def _memory() -> int:
    """MiB that this process has now; 0 where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
    except OSError:
        return 0


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, *more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">II5B", width, height, 8, 3, 0, 0, 0)) + _chunk(b"PLTE", bytes(768))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(more)
        + _chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
        + _chunk(b"IEND", b"")
    )


def _frames(place: Path, name: str, data: bytes) -> Callable[[], object]:
    """A hostile picture is a frame of a folder."""
    (place / "frames").mkdir()
    for n in range(2):
        (place / "frames" / name.replace("#", str(n))).write_bytes(data)
    return lambda: open_source(place / "frames").read([0, 1])


def png_of_any_size(rng: random.Random, place: Path) -> Callable[[], object]:
    return _frames(place, "#.png", _png(rng.choice([12336, 50000, 2**31 - 1]), rng.choice([12336, 60000])))


def png_whose_texts_unpack_to_gigabytes(rng: random.Random, place: Path) -> Callable[[], object]:
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(rng.choice([10**7, 10**8])), 9))
    return _frames(place, "#.png", _png(64, 64, *[text] * 20))


def mask_of_any_size(rng: random.Random, place: Path) -> Callable[[], object]:
    (place / "mask.png").write_bytes(_png(rng.choice([12336, 50000]), rng.choice([12336, 60000])))
    return lambda: read_mask(place / "mask.png")


def _jpeg(place: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "plain.jpg", progressive=True)
    return (place / "plain.jpg").read_bytes()


def jpeg_of_any_size(rng: random.Random, place: Path) -> Callable[[], object]:
    data = bytearray(_jpeg(place))
    at = data.find(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", rng.choice([12336, 65500]), rng.choice([12336, 65500]))
    return _frames(place, "#.jpg", bytes(data))


def jpeg_of_many_scans(rng: random.Random, place: Path) -> Callable[[], object]:
    data = bytearray(_jpeg(place))
    size, scan = data.find(b"\xff\xc2"), data.find(b"\xff\xda")
    data[size + 5 : size + 9] = struct.pack(">HH", 8000, 8000)
    length = data.find(b"\xff", scan + 4) - scan  # one scan, as often as the file shall have it
    return _frames(
        place, "#.jpg", bytes(data[: scan + length]) + bytes(data[scan : scan + length]) * rng.randint(200, 5000)
    )


def postscript_named_png(rng: random.Random, place: Path) -> Callable[[], object]:
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%touch {place.parent}/outside) (w) file\n"
    return _frames(place, "#.png", program.encode())


class Touch:
    """Unpickled by Python, it would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch "$CANARY"',)


def pickle_that_runs_a_program(rng: random.Random, place: Path) -> Callable[[], object]:
    path = place / "model.ckpt"
    rng.choice([lambda: torch.save({KEY: Touch()}, path), lambda: path.write_bytes(pickle.dumps({KEY: Touch()}))])()
    return lambda: (rng.choice([load, read_tensors]))(path)


def archive_of_compressed_zeros(rng: random.Random, place: Path) -> Callable[[], object]:
    path = place / "model.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(10**7)}}, place / "whole.ckpt")
    with zipfile.ZipFile(place / "whole.ckpt") as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    (place / "whole.ckpt").unlink()
    return lambda: read_tensors(path)


def safetensors_header_of_any_length(rng: random.Random, place: Path) -> Callable[[], object]:
    path = place / "model.safetensors"
    path.write_bytes(struct.pack("<Q", rng.choice([2**27, 2**40, 2**63])) + b'{"a":' + bytes(1000))
    return lambda: read_tensors(path)


def safetensors_of_tensors_that_are_not_there(rng: random.Random, place: Path) -> Callable[[], object]:
    shape = [2 ** rng.randint(20, 40), 2 ** rng.randint(1, 20)]
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0] * shape[1]]}}
    ).encode()
    (place / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return lambda: read_tensors(place / "model.safetensors")


def _model(place: Path, description: Any) -> Callable[[], object]:
    path, text = (
        place / "model.safetensors",
        description if isinstance(description, str) else json.dumps(description),
    )
    save_file({"w": torch.zeros(2)}, path, {KEY: text, "card": text})
    return lambda: load(path)


def model_of_any_width(rng: random.Random, place: Path) -> Callable[[], object]:
    return _model(place, {"network": {"preset": "compact", "encoder": {"key_dim": 10 ** rng.randint(6, 12)}}})


def model_of_a_deep_description(rng: random.Random, place: Path) -> Callable[[], object]:
    depth = rng.randint(10**4, 10**5)
    opened = _model(place, "[" * depth + "]" * depth)
    return rng.choice([opened, lambda: read_card(place / "model.safetensors")])


def model_that_names_code_beside_it(rng: random.Random, place: Path) -> Callable[[], object]:
    name = f"evil_{rng.randrange(10**9)}"
    (place / f"{name}.py").write_text("import os; open(os.environ['CANARY'], 'w')")
    sys.path[:] = [folder for folder in sys.path if not Path(folder).is_relative_to(place.parent)]
    opened = _model(place, {"network": {"preset": None, "encoder": {"class_path": f"{name}.Net"}}})

    def act() -> object:
        sys.path.append(str(Path.cwd()))  # as the command does
        return opened()

    return act


def model_that_names_a_function(rng: random.Random, place: Path) -> Callable[[], object]:
    path = rng.choice(["os.system", "subprocess.Popen", "builtins.eval", "torch.hub.load"])
    return _model(place, {"network": {"class_path": path, "init_args": {"command": 'touch "$CANARY"'}}})


def list_that_leads_out(rng: random.Random, place: Path) -> Callable[[], object]:
    name = rng.choice(["../outside", "/etc", "a/../../b", "C:\\x", "..\\x", "a\0b"])
    (place / "JPEGImages").mkdir()
    (place / "Annotations").mkdir()
    (place / "ImageSets/2017").mkdir(parents=True)
    (place / "ImageSets/2017/val.txt").write_text(f"dog\n{name}\n")
    return rng.choice([lambda: read_names(place / "ImageSets/2017/val.txt"), lambda: davis_sequences(place)])


def meta_that_is_no_table(rng: random.Random, place: Path) -> Callable[[], object]:
    (place / "train").mkdir()
    text = rng.choice(
        ["[" * 10**5, '{"videos": 3}', '{"videos": {"../x": {"objects": {"1": {"frames": "a"}}}}}', "\xff"]
    )
    (place / "train/meta.json").write_text(text)
    return lambda: youtube_vos_meta(place)


def zip_that_leads_out(rng: random.Random, place: Path) -> Callable[[], object]:
    video = rng.choice(["../outside", "/outside", "a/../../outside", "..\\outside"])
    target = place / "results" / video if not video.startswith("/") else Path(video)
    (place / "results").mkdir()
    ids = np.zeros((4, 4), np.uint8)
    required = [RequiredVideo(video, ("0",), ids.shape, frozenset({1}))]

    def act() -> object:
        write_result_zip(place / "results", required, place / "out.zip")
        raise RuntimeError(f"wrote {zipfile.ZipFile(place / 'out.zip').namelist()} for {target}")

    return act


def index_of_a_stranger(rng: random.Random, place: Path) -> Callable[[], object]:
    (place / "dog").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for n in range(3):
        Image.fromarray(noise + n).save(place / "dog" / f"{n}.png")
    entry = scan(place).entries[0]
    kept = json.loads((place / ".vos_umec_index.json").read_text())
    item = kept["videos"]["dog"]
    lies: dict[str, Any] = {
        "frames": 10**12, "size": [10**6, 10**6], "stamps": [[1, 10**13]], "reader": "evil", "keys": ["a"],
        "fps": 0, "step": -1, "left_out": [3],
    }  # fmt: skip
    change = rng.choice(list(lies.items()))
    item[change[0]] = change[1]
    (place / ".vos_umec_index.json").write_text(json.dumps(kept))

    def act() -> None:
        if scan(place).entries[0] != entry:
            raise RuntimeError(f"the index of a stranger is believed: {change}")

    return act


def links_in_a_circle(rng: random.Random, place: Path) -> Callable[[], object]:
    for n in range(rng.randint(2, 6)):
        (place / f"{n}").mkdir()
        (place / f"{n}" / "up").symlink_to(place)
        (place / f"{n}" / "self.mp4").symlink_to(place / f"{n}" / "self.mp4")
    return lambda: find_videos(place)


def name_with_a_command(rng: random.Random, place: Path) -> Callable[[], object]:
    names = [
        '$(touch "$CANARY").mp4', '`touch "$CANARY"`.mp4', ';touch "$CANARY";.mp4', '|touch "$CANARY"', "-i.mp4",
        "concat:a.mp4|b.mp4", "a\nb.mp4", "http:x.mp4",
    ]  # fmt: skip
    name = rng.choice(names)
    (place / name.replace("/", "_")).write_bytes(rng.randbytes(500))
    (place / "good").mkdir()
    for n in range(2):
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
            place / "good" / f"{n}.png"
        )
    return lambda: scan(place)


def playlist_named_mp4(rng: random.Random, place: Path) -> Callable[[], object]:
    texts = ["ffconcat version 1.0\nfile '/etc/passwd'\n", "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
             "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"]  # fmt: skip
    (place / "list.mp4").write_text(rng.choice(texts))
    return lambda: open_source(place / "list.mp4")


ATTACKS: dict[str, list[Attack]] = {
    "pictures": [png_of_any_size, png_whose_texts_unpack_to_gigabytes, mask_of_any_size, jpeg_of_any_size,
                 jpeg_of_many_scans, postscript_named_png],
    "model files": [pickle_that_runs_a_program, archive_of_compressed_zeros, safetensors_header_of_any_length,
                    safetensors_of_tensors_that_are_not_there, model_of_any_width, model_of_a_deep_description,
                    model_that_names_code_beside_it, model_that_names_a_function],
    "lists and zips": [list_that_leads_out, meta_that_is_no_table, zip_that_leads_out, index_of_a_stranger],
    "folders and names": [links_in_a_circle, name_with_a_command, playlist_named_mp4],
}  # fmt: skip
