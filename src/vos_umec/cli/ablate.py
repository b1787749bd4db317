"""`vos-umec ablate`: a set of runs that differ in one thing each, and their table."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from vos_umec.training.ablation.plan import Run, plan_runs, plan_setting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec ablate`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["configs/ablations/4a_all.yaml"]).seeds
        [0, 1, 2]
    """
    parser.add_argument("configs", type=Path, nargs="+", help="changes to the base, one YAML file a cell")
    parser.add_argument(
        "--base",
        nargs="+",
        default=["configs/two_cores.yaml"],
        help="the configuration that they change, and files that change it for all of them (default: "
        "configs/two_cores.yaml)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablations"), help="folder of the set (default: %(default)s)"
    )
    parser.add_argument("--davis", help="DAVIS root to score on (default: the base's data.init_args.val_root)")
    parser.add_argument("--device", default="auto", help="to score on: auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--commands", action="store_true", help="run nothing; print a command for each training, for a cluster"
    )
    parser.epilog = "What follows a bare -- goes to `vos-umec fit`: -- --data.root=VIDEOS --trainer.max_epochs=9"


def run(args: argparse.Namespace) -> int:
    """Run what is not finished, and write table.md, table.csv, table.png and experiments.md.

    Args:
        args: What `add_arguments` parsed, and as `passed_on` what followed a bare `--`.

    Returns:
        0, the exit status; 1 if a run failed.

    Raises:
        VosUmecError: If a configuration or the DAVIS folder cannot be used.
    """
    from vos_umec.cli.configs import find_config
    from vos_umec.data.layouts import davis_sequences
    from vos_umec.training.ablation.report import write_report
    from vos_umec.training.ablation.run import run_set

    setting = plan_setting([find_config(each) for each in args.base], args.davis, args.passed_on, args.out)
    runs = plan_runs(setting, [find_config(str(each)) for each in args.configs], args.seeds)
    if args.commands:
        print("\n".join(_commands(args, runs)))
        return 0
    davis_sequences(setting.davis, setting.split)  # that it is missing should show before hours of training
    failed = run_set(runs, args.device, lambda: write_report(setting))
    print((setting.out / "table.md").read_text(encoding="utf-8"))
    print(f"table.md, table.csv, table.png and experiments.md are in {setting.out}")
    return 1 if failed else 0


def _commands(args: argparse.Namespace, runs: Sequence[Run]) -> list[str]:
    """A command for every training, with all cells that share it: commands do not wait for each other."""
    files = {path.stem: str(path) for path in args.configs}
    groups: dict[str, list[Run]] = {}
    for each in runs:
        groups.setdefault(each.trained_with, []).append(each)
    options = ["--base", *args.base, "--out", str(args.out), "--device", args.device]
    options += ["--davis", args.davis] if args.davis else []
    options += ["--", *args.passed_on] if args.passed_on else []
    commands = []
    for group in groups.values():
        cells = [files[run.cell] for run in group]
        commands.append(shlex.join(["vos-umec", "ablate", *cells, "--seeds", str(group[0].seed), *options]))
    return commands
