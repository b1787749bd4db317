"""`vos-umec export`: a trained network as one small file."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from vos_umec.cli.options import add_readout, given_readout


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
    add_readout(parser)
    parser.add_argument(
        "--pyramid-weights",
        type=float,
        nargs="+",
        metavar="WEIGHT",
        help="weights of the encoder's pyramid levels, the frame itself first (default: as trained)",
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
        VosUmecError: If the checkpoint or a setting cannot be used, or a note is not of the form NAME=TEXT.
    """
    from vos_umec.errors import ConfigError
    from vos_umec.inference.load import load_described
    from vos_umec.inference.segmenter import VideoSegmenter
    from vos_umec.models.factory import build_network
    from vos_umec.models.model_file import write_model

    wrong = [note for note in args.note if "=" not in note]
    if wrong:
        raise ConfigError(f"a note has the form NAME=TEXT; found {wrong[0]}")
    network, description = load_described(args.checkpoint)
    given = given_readout(args)
    segmenter = {**({} if "protocol" in given else description.segmenter), **given}
    VideoSegmenter.from_protocol(network, **segmenter)  # wrong settings show here
    spec = description.network
    if args.pyramid_weights is not None and spec is not None:
        changes: dict[str, Any] = {"preset": spec} if isinstance(spec, str) else dict(spec)
        encoder = changes.get("encoder", {})
        if "class_path" in encoder or "class_path" in changes:
            raise ConfigError(f"--pyramid-weights are of a preset's encoder; this network is {spec}")
        spec = {**changes, "encoder": {**encoder, "pyramid_weights": args.pyramid_weights}}
        build_network(spec)  # as will whoever reads the file: weights of no use show here
    described = replace(description, network=spec, segmenter=segmenter)
    write_model(network, args.out, described, dict(note.split("=", 1) for note in args.note))
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB")
    return 0
