"""Model cards: README.md of a folder that is shared, with the head that the Hugging Face Hub reads."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from vos_umec.errors import ConfigError
from vos_umec.models.description import Description

_LICENCE = "license"
_NO_LICENCE = (
    "# license:  # for whoever shares the weights to fill in, as apache-2.0 or cc-by-nc-4.0; it depends on the "
    "training data, too"
)
_ABOUT = """\
A network that follows objects through video (semi-supervised video object segmentation): it takes the mask of each
object in one frame, and finds them in the others. It was trained with [vos_umec](https://github.com/vos-umec/vos_umec)
after UMEC, "Unified Mask Embedding and Correspondence Learning for Self-Supervised Video Segmentation"
([arXiv 2303.10100](https://arxiv.org/abs/2303.10100))."""
_USE = """\
```python
import vos_umec

segmenter = vos_umec.load_segmenter("FOLDER")  # this folder's path, or OWNER/NAME on the Hub
masks = dict(segmenter.segment("clip.mp4", {0: "first.png"}))  # ids (H, W) of each frame, from a mask of the first
```"""
_LIMITS = """\
* It was scored on nothing but what is listed above, if anything is. Look at its masks on videos of your own kind.
* It knows no classes of objects, and follows what it is given a mask of. It may confuse objects that look alike,
  and lose what comes back after a long absence with another look.
* An object that fills less than a cell of its working size can hardly be followed; a larger `short_side` helps."""
_FIGURES = ("J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def model_card(
    description: Description,
    parameters: int,
    training: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
    use: str = _USE,
    parts: Sequence[Sequence[object]] = (),
) -> str:
    """The text of a model card. Only what is known stands in it.

    Args:
        description: The network and the settings with which it was validated.
        parameters: How many numbers it has learnt.
        training: What is known of its training, by name, see `read_training`; "license" goes into the head.
        scores: Figures as fractions, and rows of "objects", as `vos-umec evaluate --json` writes them.
        use: How to use it.
        parts: Rows of a table of files, the first one its head.

    Raises:
        ConfigError: If the scores are no such mapping.

    Example:
        >>> text = model_card(Description("tiny"), 12345, {"steps": 100, "license": "apache-2.0"})
        >>> "license: apache-2.0" in text, "| steps | 100 |" in text
        (True, True)
    """
    known = {name: value for name, value in training.items() if name != _LICENCE}
    facts = [
        ("network", description.network),
        ("parameters", f"{parameters:,}"),
        ("settings of the segmenter", description.segmenter or "the defaults"),
    ]
    sections = [_head(training.get(_LICENCE)), "# A network of vos_umec for video object segmentation", _ABOUT]
    sections += [_table([("", ""), *facts]), "## Use", use]
    sections += [_table(parts)] if parts else []
    sections += ["## Training", _start(description)]
    sections += [_table([("", ""), *known.items()]) if known else "Nothing else is known of its training."]
    if scores is not None:
        sections += ["## Scores", _scores(scores)]
    return "\n\n".join([*sections, "## Limits", _LIMITS]) + "\n"


def _head(licence: object) -> str:
    """The head in YAML, which the Hub reads."""
    tags = ["video-object-segmentation", "self-supervised", "model_hub_mixin"]
    values = {"library_name": "vos_umec", "pipeline_tag": "image-segmentation", "tags": tags}
    if licence:
        values[_LICENCE] = str(licence)
    text = yaml.safe_dump(values, sort_keys=False)
    return f"---\n{text}{'' if licence else _NO_LICENCE + chr(10)}---"


def _start(description: Description) -> str:
    """What weights the training started from."""
    started = description.started_from
    if not started:
        return "No record says that it started from weights of others."
    labels = any(each.get("used_labels") for each in started)
    told = " **Some of these were trained with labels, so the model is not self-supervised.**" if labels else ""
    return f"It started from {', then '.join(_cell(each) for each in started)}.{told}"


def _scores(scores: Mapping[str, Any]) -> str:
    """The means in per cent."""
    rows = scores.get("objects")
    names = [name for name in _FIGURES if isinstance(scores.get(name), int | float)]
    if not names or not isinstance(rows, list):
        raise ConfigError(
            "the scores hold no J&F and no objects; give a file that `vos-umec evaluate --json` wrote"
        )
    sequences = len({str(row.get("sequence")) for row in rows if isinstance(row, Mapping)})
    figures = [f"{100 * float(scores[name]):.1f}" for name in names]
    return f"Per cent, means over {len(rows)} objects in {sequences} sequences.\n\n{_table([names, figures])}"


def _table(rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown; the first row is its head."""
    head, *others = [[_cell(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))


def _cell(value: object) -> str:
    """A value in one line, in which nothing is Markdown or HTML: notes may come with a file of somebody else."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return text
