"""What `make lint` asks of the dependencies and of the files: known weaknesses, locked versions, secrets.

The audit needs an index of packages. Without one it says so, compares versions with the lock, and does not fail.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.lock"
SECONDS = 60  # of the audit
# Tokens have forms that nothing else has. Words of high entropy do not: measurements are full of them.
NOT_USED = ("Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector", "KeywordDetector")
NOT_READ = (".json", ".png", ".safetensors", ".ipynb", ".lock", ".svg", ".webp", ".csv")


def locked() -> dict[str, str]:
    """Versions by name in the lock, in which each has the hashes of its files."""
    text = LOCK.read_text(encoding="utf-8")
    return dict(re.findall(r"^(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE))


def compare_with_lock() -> list[str]:
    """Packages whose installed version is not the locked one, as "name 1.0 (locked: 1.1)"."""
    other = []
    for name, wanted in locked().items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if found.partition("+")[0] != wanted.partition("+")[0]:
            other.append(f"{name} {found} (locked: {wanted})")
    return other


def known_weaknesses() -> tuple[list[str], str]:
    """Weaknesses of installed packages that a newer version mends, and why there was no audit ("" if there was)."""
    options = ["--format=json", "--progress-spinner=off", "--timeout=5", "--local"]
    command = [sys.executable, "-m", "pip_audit", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return [], f"no answer in {SECONDS} seconds"
    except (ValueError, KeyError):  # what it prints of a network that is not there is long
        missing = "No module named" in done.stderr
        return [], "pip-audit is not installed (make setup installs it)" if missing else "no index can be reached"
    audited = [package for package in packages if "vulns" in package and "skip_reason" not in package]
    if not audited:
        return [], "the index knows none of the packages"
    return [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions'])}"
        for package in audited
        for flaw in package["vulns"]
        if flaw["fix_versions"]
    ], ""


def secrets(files: list[Path]) -> list[str] | None:
    """Places of tokens and private keys in files, as "file:line: kind"; None without detect-secrets."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.plugins.base import RegexBasedDetector
    except ImportError:
        return None
    # Its patterns over whole files: its own loop takes each line apart and needs a quarter of a minute here.
    detectors = [kind for kind in get_mapping_from_secret_type_to_class().values() if kind.__name__ not in NOT_USED]
    patterns = [
        (kind.secret_type, pattern)
        for kind in detectors
        if issubclass(kind, RegexBasedDetector)
        for pattern in kind().denylist
    ]
    found = []
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        for kind, pattern in patterns:
            found += [f"{file}:{text.count(chr(10), 0, at.start()) + 1}: {kind}" for at in pattern.finditer(text)]
    return found


def main() -> int:
    """Print what was found; 1 if something must be mended."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / name for name in listed.stdout.split("\0") if name and not name.endswith(NOT_READ)]
    tokens = secrets([file for file in files if file.is_file()])
    if tokens is None:
        print("secrets: not searched for, detect-secrets is not installed (make setup installs it)")
    else:
        print(f"secrets: {len(tokens)} in {len(files)} files")
    weak, reason = known_weaknesses()
    print(f"dependencies: not audited, {reason}" if reason else f"dependencies: {len(weak)} known weaknesses")
    other = compare_with_lock()
    print(f"lock of hashes: {len(locked())} packages, {len(other)} installed in another version")
    for line in [*(tokens or []), *weak, *other]:
        print(f"  {line}")
    return 1 if tokens or weak else 0


if __name__ == "__main__":
    sys.exit(main())
