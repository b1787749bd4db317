"""Train and score a set of configurations that differ in one thing each, over seeds, and write their table.

python experiments/ablate.py experiments/cells/4a_*.yaml --davis DAVIS -- --data.root=VIDEOS --budget.minutes=10

The same command resumes a set that was interrupted, and adds cells and seeds to one that is there.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from plan import Run, plan_runs, plan_setting
from run import run_set
from vos_umec.cli.parsing import find_config
from vos_umec.data.davis import davis_sequences
from vos_umec.errors import VosUmecError


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished.

    Args:
        argv: The arguments; None for those of the process.

    Returns:
        The exit status: 0, or 1 if a run failed.

    Raises:
        VosUmecError: A configuration or the DAVIS folder cannot be used.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    place = arguments.index("--") if "--" in arguments else len(arguments)
    args, extra = _parser().parse_args(arguments[:place]), arguments[place + 1 :]
    setting = plan_setting([find_config(each) for each in args.base], args.davis, extra, args.out)
    runs = plan_runs(setting, args.cells, args.seeds)
    if args.commands:
        print("\n".join(_commands(args, extra, runs)))
        return 0
    davis_sequences(setting.davis, setting.split)  # a missing folder shows before hours of training
    failed = run_set(runs, args.device)
    print((setting.out / "table.md").read_text(encoding="utf-8"))
    print(f"table.md, table.csv, table.png and log.md are in {setting.out}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train and score a set of configurations over seeds, and write their table.",
        epilog="What follows a bare -- goes to `vos-umec fit`: -- --data.root=VIDEOS --budget.minutes=10",
    )
    parser.add_argument("cells", type=Path, nargs="+", help="changes to the base, one YAML file for each cell")
    parser.add_argument(
        "--base",
        nargs="+",
        default=["configs/two_cores.yaml"],
        help="the configuration that the cells change, and files with changes for all cells (default: "
        "configs/two_cores.yaml)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablations"), help="folder of the set (default: %(default)s)"
    )
    parser.add_argument("--davis", help="DAVIS root to score on (default: the base's data.init_args.val_root)")
    parser.add_argument("--device", default="auto", help="device to score on: auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--commands", action="store_true", help="run nothing; print a command for each training, for a cluster"
    )
    return parser


def _commands(args: argparse.Namespace, extra: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """A command for each training with all cells that share it, so that no command waits for another."""
    files = {path.stem: str(path) for path in args.cells}
    cells: dict[tuple[str, int], list[str]] = {}
    for run in runs:
        cells.setdefault((run.trained_with, run.seed), []).append(files[run.cell])
    options = ["--base", *args.base, "--out", str(args.out), "--device", args.device]
    options += ["--davis", args.davis] if args.davis else []
    options += ["--", *extra] if extra else []
    program = ["python", str(Path(__file__))]
    return [shlex.join([*program, *each, "--seeds", str(seed), *options]) for (_, seed), each in cells.items()]


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    try:
        sys.exit(main())
    except (VosUmecError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes the set")
