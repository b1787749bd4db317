"""Writes the pages that follow from the code: a page for each command and each room, and copies of the notebooks.

The pages of the commands come from the parsers themselves, those of the rooms from the names in `__init__.pyi`.
"""

import ast
import importlib
import inspect
import re
from argparse import SUPPRESS, Action, ArgumentParser
from pathlib import Path
from typing import Any
from unittest import mock

import vos_umec
from vos_umec.cli import trainer
from vos_umec.cli.main import COMMANDS, TRAINER_COMMANDS
from vos_umec.cli.parsing import command_parser

PACKAGE = Path(vos_umec.__file__).parent
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))
CLASSES = {
    "model": "vos_umec.training.UMECModule",
    "data": "vos_umec.data.VideoFolderDataModule",
}


def write_pages(docs: Path) -> None:
    """Write `reference/commands`, `reference/api` and `notebooks` below the folder of the site."""
    pages = {
        **{docs / "reference" / "commands" / f"{name}.md": text for name, text in command_pages().items()},
        **{docs / "reference" / "api" / f"{name}.md": text for name, text in room_pages().items()},
    }
    for path, text in pages.items():
        _write(path, text.encode())
    notebooks = {
        docs / "notebooks" / path.name: path for path in sorted((docs.parent / "notebooks").glob("*.ipynb"))
    }
    for path, source in notebooks.items():
        text = source.read_text(
            encoding="utf-8"
        )  # its links lead from notebooks/, here they lead from docs/notebooks
        text = text.replace("](../docs/", "](../").replace("](../CONTRIBUTING.md", "](../contributing.md")
        _write(path, text.encode())
    for folder in {path.parent for path in (*pages, *notebooks)}:
        for path in set(folder.iterdir()) - pages.keys() - notebooks.keys():
            path.unlink()  # of a command, a room or a notebook that is gone


def _write(path: Path, data: bytes) -> None:
    """Write a file if it would change: Sphinx reads again what is newer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)


# The commands


class _CaughtError(Exception):
    """No error: it carries the parser out of LightningCLI, which would run it."""


def trainer_parser() -> Any:
    """The parser of fit, validate, test and predict, as `vos-umec` builds it."""

    def caught(cli: Any, parser: Any, args: Any) -> None:
        raise _CaughtError(parser)

    with mock.patch.object(trainer.UMECCLI, "parse_arguments", caught):
        try:
            trainer.run_cli(["fit"])
        except _CaughtError as found:
            return found.args[0]
    raise RuntimeError("LightningCLI did not parse its arguments")


def command_pages() -> dict[str, str]:
    """A page for each command, by its name."""
    subcommands = trainer_parser()._subcommands_action._name_parser_map
    pages = {}
    for name in (name for commands in COMMANDS.values() for name in commands):
        if name in TRAINER_COMMANDS:
            body = _trainer_body(subcommands[name], trainer._EXAMPLES[name])
        else:
            command = importlib.import_module(f"vos_umec.cli.{name}")
            body = _light_body(command_parser(name, command), command.__doc__)
        pages[name] = f"# {name}\n\n{body}\n"
    lists = [
        f"## {_sentence(title)}\n\n" + "\n".join(["| command | |", "|---|---|", *_rows(commands)])
        for title, commands in COMMANDS.items()
    ]
    return {**pages, "_list": "\n\n".join(lists) + "\n"}


def _rows(commands: dict[str, str]) -> list[str]:
    return [f"| [{name}](/reference/commands/{name}.md) | {_sentence(line)} |" for name, line in commands.items()]


def _light_body(parser: ArgumentParser, doc: str) -> str:
    parts = [_doc_as_markdown(doc)]
    titles = {"positional arguments": "Arguments", "options": "Options"}
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            title = titles.get(group.title or "", _sentence(group.title or ""))
            parts.append(f"## {title}\n\n{_table(actions)}")
    return "\n\n".join(parts)


def _trainer_body(parser: ArgumentParser, example: str) -> str:
    text, _, line = example.partition(": ")
    own = [
        action
        for action in parser._actions
        if action.help != SUPPRESS and not action.dest.endswith("help") and action.dest not in ("refresh", "budget")
    ]
    of = {
        prefix: [action for action in own if action.dest.startswith(f"{prefix}.")]
        for prefix in ("refresh", "budget", "trainer")
    }
    plain = [
        a for a in own if "." not in a.dest and a.dest in ("config", "print_config", "seed_everything", "ckpt_path")
    ]
    return f"""{text}:

```bash
{line}
```

The command is a `LightningCLI`. Each of its settings is a key of the YAML file and an option as well, as in
`--model.network resnet18 --trainer.devices 4`. Several `--config` files are laid over each other. All settings with
their values: `--print_config`.

## Options

{_table(plain)}

`--model.…`
: The arguments of {{py:class}}`~{CLASSES["model"]}`, or of the class that `model.class_path` names.

`--data.…`
: The arguments of the data module that `data.class_path` names, such as {{py:class}}`~{CLASSES["data"]}`: see
  [the room data](../api/data.md).

## The refresh of the pseudo masks

{_table(of["refresh"])}

## A budget of time

{_table(of["budget"])}

## The Trainer

These are the arguments of Lightning's `Trainer`, whose own documentation has more on each.

{_table(of["trainer"], help_too=False)}"""


def _table(actions: list[Action], help_too: bool = True) -> str:
    """Options as definition list: a table of long sentences would be too wide for a phone."""
    entries = []
    for action in actions:
        names = [name for name in action.option_strings if not name.endswith("+")]
        long = max(names, key=len) if names else action.dest
        kind = _kind(action)
        default = action.default
        shown = isinstance(default, str | int | float | Path) and default != SUPPRESS and bool(names)
        facts = [f"{kind}" if kind else "", f"default `{_plain(default)}`" if shown else ""]
        facts += ["required"] if action.required and names else []
        about = "; ".join(fact for fact in facts if fact)
        text = re.sub(r"\bNone\b", "null", _as_code(action.help or "")) if help_too else ""
        entries.append(f"`{long}`\n: {text} {f'*({about})*' if about else ''}".rstrip())
    return "\n\n".join(entries)


def _kind(action: Action) -> str:
    if action.choices:
        return ", ".join(f"`{_plain(choice)}`" for choice in action.choices)
    found = getattr(action, "_typehint", None) or action.type
    text = (
        inspect.formatannotation(found) if found is not None and not callable(getattr(found, "_type", None)) else ""
    )
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    if "Literal[" in text:
        return ", ".join(
            f"`{word.strip(' ' + chr(39))}`" for word in re.search(r"Literal\[(.*?)\]", text)[1].split(",")
        )
    short = {"bool": "a switch", "int": "a number", "float": "a number", "Path": "a path", "str": "text"}
    plain = re.sub(r" \| None|Optional\[(\w+)\]", lambda m: m[1] or "", text)
    if found := re.fullmatch(r"list\[(\w+)\]", plain):
        return f"a list of {found[1]}" if found[1] not in ("str",) else "may be given again"
    return short.get(plain, "")


def _plain(value: object) -> str:
    return {"True": "true", "False": "false"}.get(str(value), str(value))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_code(text: str) -> str:
    """Options and file names of a help text as code, and what Markdown would read as markup as it is."""
    text = " ".join(text.split())
    parts = re.split(r"(`[^`]*`|(?<![\w`])--[a-zA-Z]\w*(?:\.\w+)*|\S*[*_]\S*?(?=[,.;:)]*(?:\s|$)))", text)
    return "".join(
        part if not part or part.startswith("`") else f"`{part}`" if i % 2 else part.replace("<", "&lt;")
        for i, part in enumerate(parts)
    )


def _doc_as_markdown(doc: str) -> str:
    """The docstring of a command: sentences, and an example of indented lines."""
    blocks = []
    for paragraph in inspect.cleandoc(doc).split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if head == "Example:":
            blocks.append(f"```bash\n{inspect.cleandoc(rest)}\n```")
        else:
            blocks.append(_as_code(paragraph))
    return "\n\n".join(blocks)


# The rooms


def room_pages() -> dict[str, str]:
    """A page for each room, by its name: a table of its public names, then each of them."""
    face = _names(PACKAGE)
    pages = {}
    for room in ROOMS:
        module = importlib.import_module(f"vos_umec.{room}")
        rows, entries = [], []
        for name in _names(PACKAGE / room):
            thing = getattr(module, name)
            full = f"vos_umec.{room}.{name}"
            kind = "class" if inspect.isclass(thing) else "function"
            star = " ◆" if name in face else ""
            rows.append(f"| {{py:obj}}`{name} <{full}>`{star} | {_as_code(_first_sentence(thing))} |")
            options = "\n   :members:\n   :show-inheritance:" if kind == "class" else ""
            entries.append(f"## {name}\n\n```{{eval-rst}}\n.. auto{kind}:: {full}{options}\n```")
        table = "\n".join(["| name | |", "|---|---|", *rows])
        intro = _as_code((module.__doc__ or "").split("\n\n")[0])
        pages[room] = (
            f"# {room}\n\n{intro} Import from `vos_umec.{room}`; names marked ◆ from the package "
            f"itself, too.\n\n{table}\n\n" + "\n\n".join(entries) + "\n"
        )
    return pages


def _names(folder: Path) -> list[str]:
    """The public names of a stub, in its order."""
    tree = ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8"))
    return [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]


def _first_sentence(thing: object) -> str:
    first = re.split(r"(?<=\.)\s", (inspect.getdoc(thing) or "").split("\n\n")[0])[0]
    return " ".join(first.split()).replace("|", "\\|")
