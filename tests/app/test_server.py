"""The app over HTTP: who may speak to it, what it takes in, and what it gives away."""

import io
import json
import zipfile
import zlib

import av
import numpy as np
import pytest
from app_toys import SIZE, Client, served, write_clip, write_frames
from PIL import Image

from vos_umec.app import uploads
from vos_umec.io.masks import read_mask
from vos_umec.io.rle import decode_rle
from vos_umec.io.source import open_source


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def client(place):
    write_clip(place / "clip.mp4")
    write_frames(place / "clip")
    with served(place / "sessions") as server:
        yield Client(server)


@pytest.fixture
def session(client, place):
    """The address of a new session."""
    return "/api/sessions/" + client.ask("POST", "/api/sessions", {"path": str(place / "clip")})["id"]


def drawing(left=8):
    ids = np.zeros(SIZE, np.uint8)
    ids[8:28, left : left + 20] = 1
    return ids


def test_only_the_one_who_started_it_gets_in(client):
    stranger = {"Cookie": ""}
    assert client.raw("GET", "/", **stranger)[0] == 403
    assert client.raw("GET", "/api/sessions", **stranger)[0] == 403
    assert client.raw("GET", "/static/main.js", **stranger)[0] == 403
    assert client.raw("GET", "/?token=wrong", **stranger)[0] == 403
    status, headers, _ = client.raw("GET", f"/?token={client.guard.token}", **stranger)
    assert (status, headers["Location"]) == (303, "/")  # the token leaves the address bar
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Lax" in headers["Set-Cookie"]
    assert client.raw("GET", "/")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # DNS rebinding
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_other_sites_get_nothing_even_with_the_cookie(client, session, headers):
    own = f"127.0.0.1:{client.guard.port}"
    assert client.raw("GET", session, Host=own, Origin=f"http://{own}")[0] == 200
    for method, path in (("GET", session), ("POST", f"{session}/stop"), ("DELETE", session)):
        assert client.raw(method, path, **headers)[0] == 403
    assert client.raw("GET", session)[0] == 200


def test_it_listens_on_this_machine_alone(client):
    import socket

    with socket.socket() as found:
        found.settimeout(2)
        assert found.connect_ex(("127.0.0.1", client.guard.port)) == 0
    with socket.socket() as found:
        found.settimeout(2)
        assert found.connect_ex(("127.0.0.2", client.guard.port)) != 0  # another address of this machine


def test_every_answer_forbids_what_comes_from_elsewhere(client, session):
    for path in ("/", session, "/static/style.css", "/nowhere", f"{session}/frames/0"):
        headers = client.raw("GET", path)[1]
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" in client.raw("GET", "/", Host="evil.example")[1]


def test_the_page_names_no_other_host(client):
    for name in ("index.html", *(f.name for f in _static().iterdir())):
        text = client.ask("GET", f"/static/{name}" if name != "index.html" else "/")
        text = text if isinstance(text, str) else text.decode()
        for address in text.split("http")[1:]:
            assert address.startswith(("://www.w3.org/2000/svg", "equiv")), name


def _static():
    import vos_umec.app.server

    return vos_umec.app.server._STATIC


def test_frames_and_masks_come_back_as_they_are(client, session, place):
    facts = client.ask("GET", session)
    assert (facts["frames"], facts["size"], facts["done"], facts["run"]) == (8, list(SIZE), [], None)
    jpeg = np.asarray(Image.open(io.BytesIO(client.ask("GET", f"{session}/frames/3")))).astype(int)
    assert np.abs(jpeg - open_source(place / "clip").read([3])[0]).mean() < 6
    client.ask("PUT", f"{session}/masks/3?drawn=1", drawing().tobytes())
    raw = client.raw("GET", f"{session}/masks/3")
    assert raw[1]["Content-Encoding"] == "deflate"
    assert zlib.decompress(raw[2]) == drawing().tobytes()
    assert client.ask("GET", session)["drawn"] == {"3": [1]}


def test_errors_are_one_line_of_words(client, session, place):
    asked = [
        ("POST", "/api/sessions", {"path": str(place / "no.mp4")}, "no.mp4"),
        ("POST", "/api/sessions", {"path": 7}, "path"),
        ("POST", "/api/sessions", b"path=x", "JSON"),
        ("GET", "/api/sessions/none-123", None, "none-123"),
        ("GET", f"{session}/frames/8", None, "0 to 7"),
        ("PUT", f"{session}/masks/0?drawn=1", b"12", "2 bytes"),
        ("PUT", f"{session}/masks/0?drawn=x", drawing().tobytes(), "'x'"),
        ("PUT", f"{session}/masks/0?drawn=9", drawing().tobytes(), "no object 9"),
        ("PATCH", f"{session}/objects/9", {"name": "x"}, "no object 9"),
        ("POST", f"{session}/follow", {"frame": "0"}, "frame"),
        ("POST", f"{session}/follow", {"frame": 99, "backward": False}, "0 to 7"),
        ("POST", f"{session}/speed", {"short_side": 7}, "32"),
        ("POST", f"{session}/downloads/all", None, "davis"),
        ("POST", f"{session}/downloads/davis", None, "no frame has a mask"),
    ]
    for method, path, content, told in asked:
        error = client.ask(method, path, content, status=400)["error"]
        assert told in error, path
        assert "\n" not in error
    assert client.raw("GET", "/static/../server.py")[0] in (403, 404)


def _form(*files):
    """A form of files as browsers send it."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n\r\n' + data
        for name, data in files
    ]
    return b"\r\n".join([*parts, b"--b--\r\n"]), {"Content-Type": "multipart/form-data; boundary=b"}


def _png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def test_a_video_and_a_folder_of_pictures_can_be_sent(client, place):
    body, headers = _form(("../../my clip.mp4", (place / "clip.mp4").read_bytes()))
    status, _, answer = client.raw("POST", "/api/uploads?name=my%20clip", body, **headers)
    assert status == 200, answer
    facts = client.ask("GET", f"/api/sessions/{json.loads(answer)['id']}")
    assert (facts["name"], facts["frames"]) == ("my clip", 8)
    body, headers = _form(("dog/2.png", _png(20)), ("dog/10.png", _png(100)))
    status, _, answer = client.raw("POST", "/api/uploads?name=dog", body, **headers)
    assert status == 200, answer
    facts = client.ask("GET", f"/api/sessions/{json.loads(answer)['id']}")
    assert (facts["name"], facts["names"]) == ("dog", ["2", "10"])


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([("clip.mp4", b"no video at all")], "cannot read"),
        ([("virus.exe", b"MZ")], "virus.exe"),
        ([("clip.mp4", b"x"), ("clip2.mp4", b"x")], "one video"),
        ([("1.png", _png(1)), ("a/1.png", _png(2))], "1.png"),
        ([("1.png", b"x" * 5000)], "larger"),
        ([], "no file"),
    ],
)
def test_what_is_no_video_is_refused_and_leaves_nothing(client, place, monkeypatch, files, told):
    before = sorted((place / "sessions").iterdir())
    monkeypatch.setattr(uploads, "MOST_BYTES", 4000)
    body, headers = _form(*files)
    status, _, answer = client.raw("POST", "/api/uploads?name=x", body, **headers)
    assert status == 400
    assert told in json.loads(answer)["error"]
    assert sorted((place / "sessions").iterdir()) == before


def test_an_upload_never_fills_the_disk(client, place, monkeypatch):
    monkeypatch.setattr(uploads, "_SPARE", 2**62)
    body, headers = _form(("clip.mp4", (place / "clip.mp4").read_bytes()))
    status, _, answer = client.raw("POST", "/api/uploads", body, **headers)
    assert (status, "full" in json.loads(answer)["error"]) == (400, True)


def test_a_run_is_told_frame_by_frame_and_downloads_are_the_masks(client, session, place):
    import http.client

    client.ask("PUT", f"{session}/masks/0?drawn=1", drawing().tobytes())
    client.ask("PATCH", f"{session}/objects/1", {"name": "red", "color": "#00ff00"})
    tab = http.client.HTTPConnection("127.0.0.1", client.guard.port, timeout=60)
    tab.request("GET", f"{session}/events", headers={"Cookie": client.cookie})
    stream = tab.getresponse()
    assert stream.readline() == b": hello\n"
    client.ask("POST", f"{session}/follow", {"frame": 0, "backward": False})
    told = []
    while not told or told[-1]["state"] != "ended":
        line = stream.readline().strip()
        if line.startswith(b"data: "):
            told.append(json.loads(line[6:])["run"])
    tab.close()
    assert [run["frame"] for run in told if run["state"] == "running"] == [None, *range(1, 8)]
    assert told[-1]["total"] == told[-1]["done"] == 7
    masks = [np.frombuffer(zlib.decompress(client.ask("GET", f"{session}/masks/{i}")), np.uint8) for i in range(8)]
    masks = np.stack(masks).reshape(8, *SIZE)
    assert all((mask == 1).any() for mask in masks)

    def downloaded(kind):
        name = client.ask("POST", f"{session}/downloads/{kind}")["name"]
        (place / name).write_bytes(client.ask("GET", f"{session}/downloads/{kind}") if kind != "coco" else b"")
        return place / name

    with zipfile.ZipFile(downloaded("davis")) as file:
        assert json.loads(file.read("objects.json")) == {"1": "red"}
        file.extractall(place / "davis")
    found = sorted((place / "davis" / "clip").iterdir())
    assert [path.name for path in found] == [f"{i:05d}.png" for i in range(8)]
    np.testing.assert_array_equal(np.stack([read_mask(path) for path in found]), masks)
    assert Image.open(found[0]).mode == "P"

    downloaded("coco")
    coco = client.ask("GET", f"{session}/downloads/coco")
    assert [c["name"] for c in coco["categories"]] == ["red"]
    for annotation in coco["annotations"]:
        mask = masks[annotation["image_id"]]
        np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), mask == 1)

    with av.open(str(downloaded("overlay"))) as video:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(shown) == 8
    red, green, _ = shown[4][masks[4] == 1].mean(axis=0)
    assert green > red - 40  # the red square in the user's green
    grey = shown[4][masks[4] == 0][:500]
    assert (grey.max(axis=1) - grey.min(axis=1)).mean() < 40


def test_two_sessions_of_one_video_do_not_mix(client, session, place):
    other = "/api/sessions/" + client.ask("POST", "/api/sessions", {"path": str(place / "clip")})["id"]
    client.ask("PUT", f"{session}/masks/0?drawn=1", drawing().tobytes())
    client.ask("PUT", f"{other}/masks/1?drawn=1", drawing(40).tobytes())
    client.ask("POST", f"{other}/objects")
    assert client.ask("GET", session)["done"] == [0]
    assert len(client.ask("GET", session)["objects"]) == 1
    assert client.ask("GET", other)["done"] == [1]
    client.ask("DELETE", other)
    assert "removed" in client.ask("GET", other, status=400)["error"]
    assert client.ask("GET", session)["done"] == [0]


def test_the_speed_is_told_for_a_short_side(client, session):
    found = client.ask("POST", f"{session}/speed", {"short_side": 32})
    assert found["short_side"] == 32
    assert found["seconds"] > 0
    assert client.ask("GET", session)["short_side"] == 32


def test_the_work_is_there_when_the_app_begins_anew(tmp_path):
    write_frames(tmp_path / "clip")
    with served(tmp_path / "sessions") as server:
        before = Client(server)
        name = before.ask("POST", "/api/sessions", {"path": str(tmp_path / "clip")})["id"]
        before.ask("PUT", f"/api/sessions/{name}/masks/3?drawn=1", drawing().tobytes())
    with served(tmp_path / "sessions") as server:  # in one process, where a lock that is left behind would show
        after = Client(server)
        assert after.ask("GET", f"/api/sessions/{name}")["drawn"] == {"3": [1]}
        assert after.raw("GET", "/", Cookie=before.cookie)[0] == 403  # a token is of one run
