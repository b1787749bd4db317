"""Runs the scripts of the pretended device, each in a process of its own, and prints what they counted.

python tests/pretend/pretend.py                     all of it, as a table
python tests/pretend/pretend.py frames --places     one script, and the places of its waits and launches
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = ("training", "frames", "parts", "rules")
Row = dict[str, Any]
"""What was counted of one thing: name, error (None or text), launches, waits, and the places of both."""


def why_not() -> str | None:
    """Why there is no pretended device here; None where there is one."""
    if sys.platform != "linux":
        return "the pretended device works on Linux only: it puts libraries before torch's own"
    if shutil.which("cc") is None:
        return "the pretended device needs a C compiler (cc), to build two small libraries"
    spec = find_spec("torch")
    if spec is None or not Path(str(spec.origin)).with_name("lib").joinpath("libc10_cuda.so").exists():
        return "the pretended device needs a build of torch for CUDA, as PyPI has it"
    return None


def build(folder: Path) -> Path:
    """Compile the two libraries into a folder."""
    for source, library in (("shim.c", "libshim.so"), ("driver.c", "libcuda.so.1")):
        command = ["cc", "-shared", "-fPIC", "-o", folder / library, HERE / source]
        subprocess.run(command, check=True, timeout=60)
    return folder


def run(script: str, libraries: Path, *arguments: int, timeout: float = 280) -> list[Row]:
    """Run `measure(*arguments)` of a script on the pretended device.

    Args:
        script: Its name, one of SCRIPTS.
        libraries: Where `build` put the libraries.
        arguments: Of `measure`.
        timeout: Seconds.

    Returns:
        What was counted, a row for each thing that it measured.
    """
    result = libraries / f"{script}.json"
    path = os.pathsep.join([str(libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    environment = os.environ | {"LD_PRELOAD": str(libraries / "libshim.so"), "LD_LIBRARY_PATH": path}
    code = (
        f"import json, pathlib, pretended_{script} as script\n"
        f"pathlib.Path({str(result)!r}).write_text(json.dumps(script.measure(*{arguments})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    rows: list[Row] = json.loads(result.read_text())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", default=SCRIPTS, help=f"of {', '.join(SCRIPTS)}")
    parser.add_argument(
        "--places", action="store_true", help="list where the host waits and what is launched where"
    )
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder:
        libraries = build(Path(folder))
        print(f"{'launches':>8} {'waits':>6}")
        for script in options.scripts:
            for row in run(script, libraries, timeout=3600):
                print(f"{row['launches']:8} {row['waits']:6}  {row['name']}")
                if row["error"]:
                    print(row["error"])
                if options.places:
                    for kind in ("waited", "launched"):
                        for place, count in row[kind]:
                            print(f"{'':16}{kind} {count:5}  {place}")


if __name__ == "__main__":
    main()
