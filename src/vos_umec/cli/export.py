"""`vos-umec export`: a trained network as one small file."""

import argparse
from pathlib import Path

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
    from vos_umec.inference.protocols import change_settings
    from vos_umec.inference.segmenter import VideoSegmenter
    from vos_umec.models.model_file import write_model

    wrong = [note for note in args.note if "=" not in note]
    if wrong:
        raise ConfigError(f"a note has the form NAME=TEXT; found {wrong[0]}")
    network, description = load_described(args.checkpoint)
    given = given_readout(args)
    own = {} if "protocol" in given else module.hparams["segmenter"] or {}
    module.hparams["segmenter"] = change_settings(own, given)
    VideoSegmenter.from_protocol(module.network, **module.hparams["segmenter"])  # wrong settings show here
    if args.pyramid_weights is not None:
        parts = module.hparams["network_args"] or {}
        encoder = parts.get("encoder", {})
        if "class_path" in encoder:
            raise ConfigError(f"--levels are of a preset's encoder; this network has {encoder['class_path']}")
        module.hparams["network_args"] = {**parts, "encoder": {**encoder, "pyramid_weights": args.pyramid_weights}}
        module.build_network()  # as will whoever reads the file: levels of no use show here
    write_model(module, args.out, dict(note.split("=", 1) for note in args.note))
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB")
    return 0
