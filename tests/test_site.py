"""The site builds without a warning and has no dead link; what README and its pages show works as it is shown."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

import vos_umec
from vos_umec.cli.main import COMMANDS, TRAINER_COMMANDS, main
from vos_umec.cli.parsing import command_parser, find_config, plain_words

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = {DOCS / "notebooks", DOCS / "reference" / "api", DOCS / "reference" / "commands", DOCS / "performance"}
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")  # what Sphinx tells its extensions
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if not MADE & set(page.parents))]
RUN = {"evaluate", "export", "horizon", "prepare", "segment", "submission"}
"""Commands that run as the pages show them; the others are parsed."""
PLACEHOLDERS = {"CKPT": "last.ckpt", "VIDEOS": "my_videos"}
SIZE, FRAMES = (48, 64), 4


FENCE = r"(?P<apart><!-- not run: [^>]+ -->\n)?^```(?P<language>[a-z]*|{[^\n]*)\n(?P<text>.*?)^```"


class Block(NamedTuple):
    """A code block: its language, its text, and whether a comment before it says why it cannot run in a test."""

    language: str
    text: str
    apart: bool


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page; those with a name in braces are for the site's builder."""
    found = re.finditer(FENCE, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    every = (Block(each["language"], each["text"], each["apart"] is not None) for each in found)
    return [block for block in every if not block.language.startswith("{")]


def shell_lines(block: Block) -> list[list[str]]:
    """The words of each command of a block; a YAML file may name the command that takes it in its first line."""
    text = block.text.replace("\\\n", " ").replace(".venv/bin/", "")
    if block.language == "yaml":
        text = text.partition("\n")[0].partition(":  ")[2]
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).with_suffix("").as_posix()


@pytest.fixture(scope="module")
def place(tmp_path_factory, checkpoint) -> Path:
    """A folder with all that the pages name, small: videos, masks of label tools, data sets, a checkpoint."""
    root = tmp_path_factory.mktemp("pages")
    made = vos_umec.SyntheticVOS(
        root / "made", train_videos=2, val_videos=2, frames=FRAMES, size=SIZE, objects=(2, 2)
    )
    made.prepare()
    (root / "my_videos").mkdir()
    for video in made.train_root.glob("*.mp4"):
        shutil.copy(video, root / "my_videos")
    for target in ("last.ckpt", "runs/folder/version_0/checkpoints/last.ckpt", "mine/finetuned.safetensors"):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        if target.endswith(".ckpt"):
            shutil.copy(checkpoint, root / target)
        else:
            assert main(["export", str(checkpoint), "--out", str(root / target)]) == 0
    sequences = made.val_sequences()
    for sequence in sequences:
        frames = list(sequence.source().read(range(FRAMES)))
        for folder in ("DAVIS/JPEGImages/480p", "YTVOS/train/JPEGImages"):
            (root / folder / sequence.name).mkdir(parents=True)
            for t, frame in enumerate(frames):
                Image.fromarray(frame).save(root / folder / sequence.name / f"{t:05d}.jpg")
        for folder in ("DAVIS/Annotations/480p", "YTVOS/train/Annotations", "RESULTS"):
            shutil.copytree(sequence.annotations[0].parent, root / folder / sequence.name)
    lists = root / "DAVIS" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(sequence.name for sequence in sequences))
    names = [f"{t:05d}" for t in range(FRAMES)]
    objects = {str(i): {"category": "thing", "frames": names} for i in (1, 2)}
    meta = {"videos": {sequence.name: {"objects": objects} for sequence in sequences}}
    (root / "YTVOS" / "train" / "meta.json").write_text(json.dumps(meta))
    _masks_of_tools(root, sequences[0])
    return root


def _masks_of_tools(root: Path, sequence) -> None:
    shutil.copy(sequence.path, root / "clip.mp4")
    for name, t in (("first", 0), ("middle", 3), ("later", 2)):
        shutil.copy(sequence.annotations[t], root / f"{name}.png")
    ids = vos_umec.read_mask(root / "first.png")
    box, ball = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    box[8:24, 8:30], ball[30:44, 40:56] = 1, 1
    # Label Studio: a grey picture for each region, 255 where it is.
    brushes = {"task-1-annotation-1-by-1-tag-Dog-0": box, "task-1-annotation-1-by-1-tag-Ball-0": ball}
    for name, mask in {"dog": box, "ball": ball, **brushes}.items():
        Image.fromarray(mask * 255).save(root / f"{name}.png")
    # CVAT: RGB pictures, colors of PASCAL VOC for objects and those of labelmap.txt for labels.
    colors = {
        "SegmentationObject": [(0, 0, 0), (128, 0, 0), (0, 128, 0)],
        "SegmentationClass": [(0, 0, 0), (250, 50, 83), (51, 221, 255)],
    }
    for folder, palette in colors.items():
        (root / "cvat" / folder).mkdir(parents=True)
        Image.fromarray(np.array(palette, np.uint8)[ids]).save(root / "cvat" / folder / "frame_000000.png")
    (root / "cvat" / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:250,50,83::\nball:51,221,255::\n"
    )
    corners = [[8, 8], [30, 8], [30, 24], [8, 24]]
    shapes = [{"label": "dog", "points": corners, "group_id": None, "shape_type": "polygon", "flags": {}}]
    (root / "labelme.json").write_text(
        json.dumps({"shapes": shapes, "imagePath": "00000.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]})
    )
    # Roboflow: COCO at twice the size.
    (root / "roboflow").mkdir()
    polygon = [2 * value for corner in corners for value in corner]
    annotation = {"id": 0, "image_id": 0, "category_id": 1, "segmentation": [polygon], "bbox": [16, 16, 44, 32]}
    picture = {"id": 0, "file_name": "00000_png.rf.0a1b.jpg", "height": 2 * SIZE[0], "width": 2 * SIZE[1]}
    coco = {"images": [picture], "annotations": [annotation], "categories": [{"id": 1, "name": "dog"}]}
    (root / "roboflow" / "_annotations.coco.json").write_text(json.dumps(coco))


@pytest.fixture(scope="module")
def trainer_parser():
    """The parser of fit, validate, test and predict."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("generate").trainer_parser()
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """The commands that ran already: pages repeat the most usual ones."""
    return set()


@pytest.fixture
def at_work(place, checkpoint, monkeypatch):
    """In the folder, with a small model in place of the shipped one."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr("vos_umec.cli.segment.SHIPPED", checkpoint)
    monkeypatch.setattr("vos_umec.inference.load.load_segmenter.__defaults__", (checkpoint, "cpu"))
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("python", "yaml") and (name := re.match(r"# (\w+\.(?:py|yaml))", block.text)):
                Path(name[1]).write_text(block.text)
                monkeypatch.delitem(
                    sys.modules, Path(name[1]).stem, raising=False
                )  # tests have files of these names
    return place


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_is_of_a_kind_that_is_looked_at(page):
    assert {block.language for block in blocks(page)} <= {"bash", "python", "yaml", "text", "bibtex"}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=page_name)
def test_what_a_page_shows_works(page, at_work, trainer_parser, ran, capsys):
    """Its blocks in their order: Python and quick commands run, other commands are parsed."""
    frame, mask = np.zeros((*SIZE, 3), np.uint8), vos_umec.read_mask("first.png")
    names = {"my_stream": [(frame, mask), (frame, None)], "__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(page), "exec")
            for name in re.findall(r"\bvos_umec\.(\w+)", block.text):
                assert hasattr(vos_umec, name), f"vos_umec.{name}"
            if not block.apart:
                exec(compile(small(block.text), str(page), "exec"), names)
        if block.language in ("bash", "yaml"):
            for words in shell_lines(block):
                check_words(words, trainer_parser, capsys, not block.apart, ran)


def small(text: str) -> str:
    """A command or Python with a working size of the small clips' own."""
    return re.sub(r"(short[_-]side[= ])[0-9]+", rf"\g<1>{SIZE[0]}", text)


def check_words(words: list[str], trainer_parser, capsys, run: bool, ran: set[str]) -> None:
    """Check one line of a shell; a name in capitals before a command is a variable."""
    if words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert words[1] == "install"
        assert all(extra in extras for extra in re.findall(r"\[(\w+)\]", words[2]))
    elif words[0] == "make":
        assert set(words[1:]) <= make_targets()
    elif words[0] == "python":
        own = words[2 : words.index("--") if "--" in words else None]
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        assert all(f'"{word.partition("=")[0]}"' in source for word in own if word.startswith("--"))
    else:  # also behind torchrun or srun
        assert "vos-umec" in words, f"a command that no test knows: {shlex.join(words)}"
        check_command(words[words.index("vos-umec") + 1 :], trainer_parser, capsys, run, ran)


def check_command(words: list[str], trainer_parser, capsys, run: bool, ran: set[str]) -> None:
    name, *rest = words
    if name in ("--help", "--version"):
        return
    assert any(name in commands for commands in COMMANDS.values()), name
    if rest == ["--help"]:
        return
    if name in TRAINER_COMMANDS:
        pairs = zip(["", *rest], rest, strict=False)
        files = [str(find_config(word)) if before == "--config" else word for before, word in pairs]
        trainer_parser.parse_args([name, *(word for word in files if word != "--print_config")])
        return
    command = importlib.import_module(f"vos_umec.cli.{name}")
    command_parser(name, command).parse_args(plain_words(command, rest), defaults=False)
    if run and name in RUN:
        line = small(shlex.join(PLACEHOLDERS.get(word, word) for word in words))
        if line in ran:  # on a page before
            return
        ran.add(line)
        assert main(shlex.split(line)) == 0, f"{line}\n{capsys.readouterr().err}"


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_readme_is_short_names_the_two_commands_and_every_target():
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") < 150
    assert {"make demo", "make test"} <= {line.partition("#")[0].strip() for line in readme.splitlines()}
    (listed,) = re.findall(r"^make (setup, .*)$", readme, flags=re.MULTILINE)
    assert set(listed.split(", ")) == make_targets() - {"help"}
    assert (DOCS / "pictures" / "teaser.webp").stat().st_size < 700_000


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_of_the_sources_lead_to_files(page):
    """In the repository, where no builder follows them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    own = [target.partition("#")[0] for target in targets if not urlsplit(target).scheme and target[0] != "#"]
    assert [target for target in own if not (page.parent / target).exists()] == []


class _Page(HTMLParser):
    """The links, the anchors and the loaded files of a built page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.anchors, self.loaded = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.add(values["href"])
        if tag in ("img", "script", "source") and values.get("src"):
            self.loaded.add(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon"):
            self.loaded.add(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built with warnings as errors and without a network."""
    out = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('building the site asks the network')\n"
        "socket.socket.connect = refuse\n"
        "from sphinx.cmd.build import build_main\n"
        f"sys.exit(build_main({words}))"
    )
    # In a process of its own: autodoc loads modules anew, to see what they import for types alone.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_the_site_has_no_dead_links_and_loads_nothing_from_elsewhere(site):
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 40
    dead = []
    for path, page in pages.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link not in page.loaded, f"{path.name} loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            wanted = unquote(parts.fragment) if target in pages else ""
            if not target.is_file() or (wanted and wanted not in pages[target].anchors):
                dead.append(f"{path.name}: {link}")
    assert dead == []


@pytest.mark.slow
def test_the_site_shows_every_public_name_and_every_option(site):
    surface = (ROOT / "tests" / "surface.txt").read_text().splitlines()
    for room, names in (line.split(": ", 1) for line in surface if line.startswith("vos_umec.")):
        page = _Page((site / "reference" / "api" / f"{room.rpartition('.')[2]}.html").read_text())
        assert {f"{room}.{name}" for name in names.split()} <= page.anchors
    for name in (name for commands in COMMANDS.values() for name in commands):
        text = (site / "reference" / "commands" / f"{name}.html").read_text()
        if name in TRAINER_COMMANDS:
            assert "--refresh.every_n_epochs" in text
        else:
            parser = command_parser(name, importlib.import_module(f"vos_umec.cli.{name}"))
            options = {action.option_strings[0] for action in parser._actions[1:] if action.option_strings}
            assert all(option in text for option in options)


@pytest.mark.slow
def test_the_site_shows_every_notebook(site):
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{notebook.stem}.html").is_file()
