"""`vos-umec app` as a program: killed in the middle of a run, it goes on; asked to end, it ends well."""

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main


@contextmanager
def app(tmp_path, *words):
    """The app in a process of its own, and a function that asks it."""
    command = [sys.executable, "-m", "vos_umec.cli.main", "app", *words, "--port", "0", "--browser", "false"]
    command += ["--sessions", str(tmp_path / "sessions"), "--device", "cpu", "--short-side", "32", "--rounds", "0"]
    # Ctrl+C reaches it even if the tests themselves run in the background, where shells have it ignored.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heard
    )
    try:
        said = ""
        while "Ctrl+C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        address = urlsplit(re.search(r"http://\S+", said)[0])

        def ask(method, path, body=None):
            connection = HTTPConnection(address.netloc, timeout=60)
            cookie = f"vos_umec_{address.port}={address.query.removeprefix('token=')}"
            kind = {"Content-Type": "application/json"} if isinstance(body, str) else {}
            connection.request(
                method, f"/api{address.path.replace('/s/', '/sessions/')}{path}", body, {"Cookie": cookie, **kind}
            )
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return text

        yield process, said, ask
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_killed_app_goes_on_where_it_was(tmp_path):
    (tmp_path / "clip").mkdir()
    for t in range(40):
        frame = np.zeros((32, 96, 3), np.uint8)
        frame[8:24, t : t + 16] = 255
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t:05d}.png")
    mask = np.zeros((32, 96), np.uint8)
    mask[8:24, :16] = 1
    with app(tmp_path, str(tmp_path / "clip")) as (process, said, ask):
        assert "before" not in said
        ask("PUT", "/masks/0?drawn=1", mask.tobytes())
        ask("POST", "/follow", '{"frame": 0, "backward": false}')
        masks = tmp_path / "sessions"
        while len(list(masks.glob("*/masks/[!.]*.png"))) < 4:
            time.sleep(0.01)
        process.kill()
    with app(tmp_path, str(tmp_path / "clip")) as (process, said, ask):
        assert "goes on with the work" in said
        facts = ask("GET", "").decode()
        done = len(re.search(r'"done": \[([\d, ]+)\]', facts)[1].split(","))
        assert done >= 4
        assert '"drawn": {"0": [1]}' in facts
        for index in range(done):  # each mask is whole
            ask("GET", f"/masks/{index}")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0
        assert "what you did is saved" in rest
        assert "Traceback" not in rest


def test_what_cannot_be_served_is_said_in_one_line(tmp_path, capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for words, told in (
            ([str(tmp_path / "no.mp4")], "no.mp4"),
            (["--checkpoint", str(tmp_path / "no.ckpt")], "no.ckpt"),
            (["--port", port], port),
        ):
            more = ["--sessions", str(tmp_path / "s"), "--browser", "false", "--device", "cpu"]
            assert main(["app", *words, *more]) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert told in line
    assert not list(tmp_path.glob("s/*"))
