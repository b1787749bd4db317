"""`vos-umec export`: a trained network as one small file."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec export`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["last.ckpt", "--out", "model.safetensors"]).note
        []
    """
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file that training wrote")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, ending in .safetensors")
    parser.add_argument(
        "--rounds",
        type=int,
        help="refinement rounds to segment with, 0 for none (default: as validated)",
    )
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="what a reader should know of it, such as data='38 clips'; may be given again",
    )


def run(args: argparse.Namespace) -> int:
    """Write a network and its read-out as a model file, which every command takes as its --checkpoint.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        VosUmecError: If the checkpoint cannot be used, or a note is not of the form NAME=TEXT.
    """
    from vos_umec.errors import ConfigError
    from vos_umec.training.checkpoint import load_module
    from vos_umec.training.model_file import write_model

    wrong = [note for note in args.note if "=" not in note]
    if wrong:
        raise ConfigError(f"a note has the form NAME=TEXT; found {wrong[0]}")
    module = load_module(args.checkpoint)
    if args.rounds is not None:
        module.hparams["segmenter"] = {**(module.hparams["segmenter"] or {}), "rounds": args.rounds}
    write_model(module, args.out, dict(note.split("=", 1) for note in args.note))
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB")
    return 0
