"""The page of a run: its numbers are those of the files, and it needs nothing beside it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.io.masks import write_mask
from vos_umec.metrics.horizon import HorizonScores
from vos_umec.metrics.results import Scores, evaluate
from vos_umec.metrics.sequence import SequenceScorer
from vos_umec.report.charts import MOST_POINTS, Line, line_chart
from vos_umec.report.page import render
from vos_umec.report.run_files import read_run
from vos_umec.viz.pairs import read_description, save_described

METRICS = """epoch,segments/entropy,step,train/loss,val/J&F,val/J-Mean
0,,4,2.5,,
0,,9,1.25,,
,0.875,10,,,
0,,10,,0.3125,0.25
1,,19,0.625,,
1,,20,,0.4375,0.375
"""
GREY = np.full((24, 32, 3), 128, np.uint8)
VOID = {"br", "img", "input", "link", "meta", "hr", "line", "circle", "polyline"}


class Page(HTMLParser):
    """The elements of a page; an end tag that closes nothing, or an element without one, fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self) -> list[float]:
        """The numbers of table cells at full precision."""
        return [float(cell["data-v"]) for cell in self.of("td") if cell.get("data-v")]


def made_scores(seed: int, names=("dog", "<b>&cat")) -> Scores:
    rng = np.random.default_rng(seed)
    scores = Scores([])
    for name in names:
        scorer = SequenceScorer(name)
        for _ in range(12):
            truth = np.zeros((24, 32), np.uint8)
            truth[4:12, 4:12], truth[14:20, 20:30] = 1, 2
            scorer.update(np.where(rng.random(truth.shape) < 0.2, 0, truth), truth)
        scores.objects.extend(scorer.rows())
        scores.curves.extend(scorer.curves([f"{i:05d}" for i in range(12)]))
    return scores


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "folder" / "version_0"
    (folder / "scores").mkdir(parents=True)
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "config.yaml").write_text("seed_everything: 7\nmodel: {init_args: {network: tiny}}\n")
    record = {
        "command": ["vos-umec", "fit", "--data.root", "my videos"],
        "seconds": 125.0,
        "hardware": {"device": "cpu"},
    }
    (folder / "run.json").write_text(json.dumps(record))
    for method, seed in (("umec", 0), ("copy_first_mask", 1)):
        (folder / "scores" / f"{method}.json").write_text(made_scores(seed).to_json())
    for number in (1, 2):
        for video in ("a.mp4", "deep%2Fb.mp4"):
            place = folder / "pseudo_masks" / "pictures" / f"refresh_{number:03d}_{video}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(GREY).save(place)
    for step in (10, 20):
        about = {"split": "val", "step": step, "sequence": "dog", "frame": "00009", "kind": "shown", "J&F": 0.4375}
        save_described(folder / "overlays" / f"val_{step}.png", GREY, about)
    about = {"split": "val", "step": 20, "sequence": "dog", "frame": "00003", "kind": "worst", "J&F": 0.0625}
    save_described(folder / "overlays" / "worst.png", GREY, about)
    place = {"sequence": "dog", "object": 1, "start": 0, "frame": 4, "F": 0.5}
    rows = [{**place, "method": m, "horizon": h, "J&F": 0.5 + h / 64, "J": 0.5} for m in "ab" for h in (1, 4)]
    (folder / "horizon.json").write_text(HorizonScores(rows).to_json(checkpoint="last.ckpt"))
    return folder


def test_the_numbers_of_the_page_are_those_of_the_files(run):
    text = render(read_run(run))
    page, values = Page(text), Page(text).values()
    files = {m: json.loads((run / "scores" / f"{m}.json").read_text()) for m in ("umec", "copy_first_mask")}
    for content in files.values():
        assert content["J&F"] in values
        for name in ("dog", "<b>&cat"):
            own = [row["J&F"] for row in content["objects"] if row["sequence"] == name]
            assert np.mean(own) in values
    for figure in ("J-Mean", "F-Mean", "J-Recall", "J-Decay"):
        assert files["umec"][figure] in values
    assert files["copy_first_mask"]["J-Mean"] not in values  # of the model alone
    assert {0.5 + 1 / 64, 0.5 + 4 / 64} <= set(values)
    lines = {line["data-values"] for line in page.of("polyline")}
    assert "4:2.5 9:1.25 19:0.625" in lines
    assert "10:31.25 20:43.75" in lines
    assert "10:0.875" in lines
    curve = files["umec"]["curves"][:2]
    expected = [50 * np.mean([c["J"][i] + c["F"][i] for c in curve]) for i in range(10)]
    drawn = [[float(pair.split(":")[1]) for pair in line.split()] for line in lines]
    assert any(len(each) == 10 and np.allclose(each, expected, rtol=1e-6) for each in drawn)
    told = " ".join(page.text)
    for words in (
        "43.8 %",
        "best 43.8 at step 20",
        "first 2.5",
        "fit --data.root 'my videos'",
        "2.1 min",
        "deep/b.mp4",
    ):
        assert words in told, words
    assert f"{100 * files['umec']['J&F']:.1f}" in told


def test_the_page_needs_nothing_beside_it_and_is_sound(run):
    text = render(read_run(run))
    page = Page(text)
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "<b>&cat" not in text  # a name is no markup
    assert "<b>&cat" in page.text
    assert len(page.of("img")) == 4 + 2 + 1  # refreshes, validation frames, the worst frame
    assert all(each["alt"] for each in page.of("img"))
    assert "Best and worst" in " ".join(page.text)
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        assert ElementTree.fromstring(svg).attrib["aria-label"]
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.of("a")} <= ids
    assert "Not in this report" not in text


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        ("metrics.csv", "vos-umec fit"),
        ("scores", "vos-umec test --config"),
        ("horizon.json", "vos-umec horizon"),
        ("run.json", "write run.json"),
        ("pseudo_masks", "refresh.warmup_epochs"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(run, left_out, told):
    (run / left_out).rename(run.parent / "elsewhere")
    _, missing = render(read_run(run)).split("Not in this report")
    assert told in re.sub(r"<[^>]+>", "", missing)
    assert missing.count("<li>") == 1


def test_a_folder_of_masks_is_drawn_with_its_best_and_worst_frames(tmp_path, capsys):
    for i in range(5):
        for folder in ("JPEGImages", "Annotations"):
            (tmp_path / "DAVIS" / folder / "dog").mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).save(tmp_path / "DAVIS" / "JPEGImages" / "dog" / f"{i:05d}.jpg")
        truth = np.zeros((24, 32), np.uint8)
        truth[4:20, 4:20] = 1
        write_mask(tmp_path / "DAVIS" / "Annotations" / "dog" / f"{i:05d}.png", truth)
        write_mask(tmp_path / "results" / "dog" / f"{i:05d}.png", np.roll(truth, 3 * (i == 2), axis=1))
    file = tmp_path / "scores.json"
    words = ["evaluate", tmp_path / "results", "--root", tmp_path / "DAVIS", "--json", file]
    assert main([str(word) for word in words]) == 0
    whole = evaluate(tmp_path / "results", tmp_path / "DAVIS")
    assert json.loads(file.read_text())["curves"] == whole.curves
    assert whole.curves[0]["frames"] == ["00001", "00002", "00003"]
    assert np.mean(whole.curves[0]["J"]) == whole.objects[0]["J-Mean"]
    assert main(["report", str(file)]) == 0
    page = Page((tmp_path / "scores.html").read_text())
    captions = [text for text in page.text if text.startswith("dog, frame")]
    assert captions[0].startswith("dog, frame 00002: ")  # the worst one
    assert captions[1] == "dog, frame 00001: 100.0"
    assert len(page.of("img")) == 2


def test_the_newest_run_in_the_folder_of_a_demo_is_taken(run, tmp_path, capsys):
    (run / "scores").rename(tmp_path / "scores")
    Image.fromarray(GREY).save(tmp_path / "result.png")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert "page.html" in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text()
    assert "Scores by sequence" in text
    assert "4:2.5 9:1.25" in text
    assert "result.png" in text


ROW = {"sequence": "dog", "object": 1, "J&F": 0.5, "J-Mean": 0.5, "F-Mean": 0.5}


def _scores(**changes) -> str:
    return json.dumps({"J&F": 0.5, "objects": [ROW], **changes})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (None, None, ["no run at"]),
        ("notes.txt", "", ["nothing that a report could show", "runs/folder/version_0"]),
        ("metrics.csv", "step,train/loss\n1,high\n", ["metrics.csv", "no table"]),
        ("metrics.csv", "\x00\x01\n\x00", ["metrics.csv", "no table"]),
        ("scores.json", '{"J&F": 0.5, "obj', ["scores.json", "JSON"]),
        ("run.json", "[", ["run.json", "JSON"]),
        ("run.json", "[" * 200_000, ["run.json", "JSON"]),
        ("scores.json", _scores(about=5), ["not as vos-umec writes it"]),
        ("scores.json", _scores(curves=5), ["not as vos-umec writes it"]),
        ("scores.json", _scores(curves=[{"J": 1}]), ["not as vos-umec writes it", "sequence"]),
        ("scores.json", _scores(objects=[{**ROW, "J-Mean": "high"}]), ["not as vos-umec writes it", "high"]),
        ("horizon.json", '{"summary": [{"horizon": 1, "method": "a"}]}', ["not as vos-umec writes it"]),
    ],
)
def test_a_broken_or_empty_run_ends_in_one_line(tmp_path, capsys, name, content, words):
    place = tmp_path / "run"
    if name:
        place.mkdir()
        (place / name).write_text(content)
    assert main(["report", str(place)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines
    assert not (place / "report.html").exists()


def test_a_page_of_somebody_else_is_not_replaced(run, capsys):
    page = run / "report.html"
    for _ in range(2):
        assert main(["report", str(run)]) == 0  # its own is
    page.write_text("mine")
    assert main(["report", str(run)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main(["report", str(run), "--overwrite"]) == 0
    assert page.read_text() != "mine"


def test_a_broken_picture_is_left_out(run, caplog):
    for path in run.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    page = Page(render(read_run(run)))
    assert not page.of("img")
    assert "cannot be read" in caplog.text
    assert read_description(next(run.rglob("*.png"))) == {}
    for path in run.rglob("*.png"):  # 12336 x 12336 pixels, in its header alone
        path.write_bytes(b"P6 12336 12336 255\n" + bytes(100))
    assert not Page(render(read_run(run))).of("img")
    assert "more than are read" in caplog.text


def test_a_long_line_is_thinned_and_ends_where_it_ends():
    points = [(float(step), float(np.sin(step / 50))) for step in range(1 + 17 * 299)]
    svg = ElementTree.fromstring(line_chart([Line("loss", points)], "loss"))
    values = [tuple(map(float, pair.split(":"))) for pair in svg.find("polyline").attrib["data-values"].split()]
    assert len(values) <= MOST_POINTS
    assert values[-1] == pytest.approx(points[-1], rel=1e-6)
    assert np.mean([value for _, value in values[:-1]]) == pytest.approx(
        np.mean([y for _, y in points[:-1]]), abs=1e-3
    )


def test_a_run_that_logged_nothing_yet_shows_what_was_run(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"command": ["vos-umec", "fit", "--data.root", "videos"]}))
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "--out", str(page)]) == 0
    assert "vos-umec fit --data.root videos" in page.read_text()
