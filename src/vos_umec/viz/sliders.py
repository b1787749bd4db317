"""A picture with sliders in a notebook, and a still of it where no kernel runs."""

import io
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from vos_umec.errors import ConfigError, MissingDependencyError
from vos_umec.io.frames import Frame

_WIDGET = "application/vnd.jupyter.widget-view+json"


class Sliders:
    """A picture that follows sliders. As the last value of a notebook's cell it shows itself.

    Where no kernel runs, as on a code host or on paper, readers see the still. Needs ipywidgets.

    Args:
        draw: Makes the picture (H, W, 3) uint8 RGB from one number for each slider, by name.
        still: The picture for readers without a kernel; None for that of the start.
        start: Where sliders begin, by name; the others begin in the middle.
        **ranges: By name, the numbers that a slider takes.

    Attributes:
        widget: The widget of ipywidgets: the picture, and the sliders below it.

    Raises:
        ConfigError: There is no slider, a range is empty, or a start is not in the range of its slider.
        MissingDependencyError: If ipywidgets is not installed.

    Example:
        >>> import numpy as np
        >>> def grey(shade):
        ...     return np.full((8, 8, 3), shade, np.uint8)
        >>> shades = Sliders(grey, start={"shade": 100}, shade=range(256))
        >>> shades.widget.children[1].value
        100
    """

    def __init__(
        self,
        draw: Callable[..., Frame],
        still: Frame | None = None,
        start: Mapping[str, int] | None = None,
        **ranges: range,
    ) -> None:
        start = {name: numbers[len(numbers) // 2] for name, numbers in ranges.items() if numbers} | dict(
            start or {}
        )
        if not ranges or start.keys() != ranges.keys() or any(start[name] not in ranges[name] for name in ranges):
            raise ConfigError(
                f"sliders with the ranges {ranges} start at {start}: expected one slider or more, each with a "
                "range that holds its start"
            )
        widgets = _import_ipywidgets()
        picture = widgets.Image(value=_encoded(draw(**start)), format="jpeg")
        sliders = {
            name: widgets.SelectionSlider(options=list(numbers), value=start[name], description=name)
            for name, numbers in ranges.items()
        }

        def redraw(_: object) -> None:
            picture.value = _encoded(draw(**{name: slider.value for name, slider in sliders.items()}))

        for slider in sliders.values():
            slider.observe(redraw, names="value")
        self.widget = widgets.VBox([picture, *sliders.values()])
        self._still = bytes(picture.value) if still is None else _encoded(still)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The widget, and the still for those who cannot show it."""
        view = {"model_id": self.widget.model_id, "version_major": 2, "version_minor": 0}
        return {
            _WIDGET: view,
            "image/jpeg": b64encode(self._still).decode(),
            "text/plain": "a picture with sliders",
        }


def _encoded(picture: Frame) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return file.getvalue()


def _import_ipywidgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise MissingDependencyError(
            "sliders need the package ipywidgets, which is not installed; pip install 'vos-umec[notebooks]'"
        ) from error
    return ipywidgets
