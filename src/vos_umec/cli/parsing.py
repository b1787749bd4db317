"""Parsers of the commands: made of signatures and docstrings, with errors of one line."""

import inspect
import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import docstring_parser
import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from vos_umec.errors import ConfigError

_MODE = "yaml with colors"
_MOST_VALUES = 100_000  # of a configuration; those that come with the package have fewer than 200


def _load(text: str) -> Any:
    """Read a value as YAML does, but #ff8000 is a color, and #1.png a file: YAML takes them for comments."""
    return text if text.startswith("#") and "\n" not in text else get_loader("yaml")(text)


set_loader(_MODE, _load, exceptions=(yaml.YAMLError,))


def find_config(value: str) -> Path:
    """The configuration file that `--config` names: a file, or else one of this package.

    Those of this package may be named with or without `configs/`, as "configs/folder.yaml" or "folder.yaml".

    Raises:
        ConfigError: There is neither.
    """
    if Path(value).is_file():
        return Path(value)
    package = Path(str(files("vos_umec")))
    folders = (package.parents[1] / "configs", package / "configs")  # of an editable checkout; of a wheel
    shipped = {path.relative_to(f).as_posix(): path for f in folders for path in f.rglob("*.yaml")}
    name = Path(value).as_posix().removeprefix("configs/")
    if name in shipped:
        return shipped[name]
    known = sorted(other for other in shipped if Path(other).parent == Path(name).parent)
    known = known or sorted(other for other in shipped if "/" not in other)
    raise ConfigError(f"no configuration file {value}; give a file, or one of: {', '.join(known)}")


def require_yaml(path: Path) -> None:
    """Raise a ConfigError if a configuration is no text, or grows without end through aliases that hold aliases."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None) -> int:
        """How many values a node stands for; aliases of one node are one object."""
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_VALUES  # of a node that holds itself
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    try:
        with suppress(yaml.YAMLError):  # the parser says what is wrong
            if size(yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.SafeLoader)) > _MOST_VALUES:
                raise ConfigError(
                    f"the configuration {path} stands for more than {_MOST_VALUES} values; shorten it"
                )
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the configuration {path} is no text in UTF-8 ({error.reason}); save it as UTF-8"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"the configuration {path} is nested too deeply; give a flatter one") from error


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what jsonargparse reports as a ConfigError, without Python's names of types."""
        lines = [line.strip(" -") for line in str(message).splitlines() if line.strip(" -")]
        if "Errors:" in lines:  # one for each type that the argument may have; the first is the type that was meant
            first = lines.index("Errors:") + 1
            last = lines[-1].replace("Given value", ". Got value")
            lines = [lines[0], *lines[first : first + (2 if lines[first].endswith(":") else 1)]]
            lines[1] += last if lines[1].endswith(">") and "Nested" not in last else ""
        text = re.sub(r'Parser key "([\w.]+)"', r"\1", " ".join(lines))
        text = re.sub(r"/--\w+\+", "", text)  # how `plain_words` gives lists
        if found := re.search(r"unrecognized arguments: (-\S+)", text):
            text += f"; for a file of this name give ./{found[1]}" if Path(found[1]).exists() else ""
        raise ConfigError(re.sub(r"<class '([\w.]+)'>", r"\1", text).replace("typing.", "")) from ex


class _Help(RawDescriptionHelpFormatter):
    """Shows the default of each option, without its type; null is how a value of None is given."""

    def _get_help_string(self, action: Any) -> str:
        text = re.sub(r"\bNone\b", "null", (action.help or "").replace("%", "%%").replace("`", ""))
        plain = isinstance(action.default, str | int | float | Path) and action.option_strings
        return f"{text} (default: %(default)s)" if plain and action.dest != "help" else text


def command_parser(name: str, command: Any) -> Parser:
    """The parser of a command, made of the signature and docstring of its `run`.

    Parameters before the `*` are positional, and may be left out where they have a default; those after it are
    options. Where the command's module has `SETTINGS`,
    {title of a group: classes or functions}, their arguments with a default are options too; `run` takes what was
    given of them as `**settings`.
    """
    parser = Parser(
        prog=f"vos-umec {name}",
        description=command.__doc__,
        formatter_class=_Help,
        allow_abbrev=False,
        parser_mode=_MODE,
    )
    settings = getattr(command, "SETTINGS", {})
    of_settings: set[str | int] = {
        key for owners in settings.values() for owner in owners for key in _parameters(owner)
    }
    parameters = _parameters(command.run)
    options: set[str | int] = {key for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    positional: set[str | int] = {key for key in parameters if key not in options}
    add_own = partial(parser.add_function_arguments, command.run, as_group=False)
    optional = {key for key in positional if parameters[str(key)].default is None}
    add_own(as_positional=True, skip=(options | of_settings) - positional | optional)
    if optional:  # which jsonargparse would make options
        told = {param.arg_name: param.description for param in docstring_parser.parse(command.run.__doc__).params}
        for key in optional:
            parser.add_argument(
                str(key), nargs="?", type=parameters[str(key)].annotation, default=None, help=told[str(key)]
            )
    add_own(skip=positional | of_settings - options)
    for title, owners in settings.items():
        group = parser.add_argument_group(title)
        for owner in owners:
            required: set[str | int] = {key for key, p in _parameters(owner).items() if p.default is p.empty}
            add = group.add_class_arguments if inspect.isclass(owner) else group.add_function_arguments
            add(owner, as_group=False, skip=required | {"readout"})
    return parser


def _parameters(owner: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(owner).parameters


def plain_words(command: Any, words: Sequence[str]) -> list[str]:
    """The words of a command as its parser takes them.

    Options that take a list are given once for each of its values; a switch (`--resume`) needs no value.

    Raises:
        ConfigError: An option that takes one value is given twice, or a path is empty.
    """
    owners = [command.run, *(owner for group in getattr(command, "SETTINGS", {}).values() for owner in group)]
    types = {name: p.annotation for owner in owners for name, p in _parameters(owner).items()}
    plain, seen = [], set()
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        word = underscored(word)
        option, equals, value = word.removeprefix("--").partition("=")
        kind = types.get(option) if word.startswith("--") else None
        if "Path" in str(kind) and (value if equals else following) == "":  # Path("") would be the current folder
            raise ConfigError(f"--{option} is empty; give a path")
        if kind is None:
            plain.append(word)
        elif "list[" in str(kind):
            plain.append(f"--{option}+{equals}{value}")
        elif option in seen:
            raise ConfigError(f"--{option} is given twice, and takes one value; give it once")
        elif kind is bool and not equals and following.lower() not in ("true", "false"):
            plain.append(f"--{option}=true")
        else:
            plain.append(word)
        seen.add(option)
    return plain


def underscored(word: str) -> str:
    """`--short-side` is the option that is shown as `--short_side`."""
    option, equals, value = word.partition("=")
    return f"--{option[2:].replace('-', '_')}{equals}{value}" if word.startswith("--") else word
