"""Draws `docs/pictures/method.svg`, the method in one picture.

    python docs/pictures/method.py

The drawing takes its colors from the page that shows it, so it is readable on light and on dark ones.
"""

from pathlib import Path

INK = "var(--color-foreground-primary, #222)"
SOFT = "var(--color-foreground-secondary, #666)"
PANEL = "var(--color-background-secondary, #f4f6f6)"
CARD = "var(--color-background-primary, #fff)"
LINE = "var(--color-foreground-border, #9aa5a5)"
E, V, D, A = "#2a9d8f", "#e07a3f", "#7b6fc4", "#d1a11f"
SEGMENTS = ("#2a9d8f", "#e07a3f", "#7b6fc4", "#d1a11f")


def text(
    x: float, y: float, words: str, size: float = 15, color: str = INK, anchor: str = "middle", more: str = ""
) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" text-anchor="{anchor}" {more}>{words}</text>'


def math(name: str, low: str = "", bar: str = "") -> str:
    """A symbol in italics with an index, and a bar or a hat over it."""
    over = {"": "", "bar": "\u0304", "hat": "\u0302"}[bar]
    index = f'<tspan dy="4" font-size="0.72em">{low}</tspan><tspan dy="-4">\u200b</tspan>' if low else ""
    return f'<tspan font-style="italic">{name}{over}</tspan>{index}'


def box(x: float, y: float, w: float, h: float, color: str, *lines: str) -> str:
    """A part of the network: a colored card with a letter, or with lines."""
    first = y + h / 2 + 6 - 10 * (len(lines) - 1)
    words = "".join(
        text(x + w / 2, first + 21 * i, line, 15 if len(lines) > 1 else 19) for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="9" fill="{CARD}"/>'
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="9" fill="{color}" fill-opacity="0.22" stroke="{color}"'
        f' stroke-width="2"/>{words}'
    )


def arrow(path: str, color: str = SOFT, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2" marker-end="url(#tip)"{dash}/>'


def frame(x: float, y: float, mask: bool = False, sky: bool = True, segments: bool = False) -> str:
    """A little picture of 96 x 60: a hill, a sun and a boat; its mask, or its segments."""
    back = "#20262b" if mask else "#8ecae6"
    hill, sun, boat = ("#20262b", "#20262b", "#f1f1f1") if mask else ("#84a98c", "#ffd166", "#c1443c")
    if segments:
        back, hill, sun, boat = SEGMENTS[0], SEGMENTS[2], SEGMENTS[0], SEGMENTS[1]
    return (
        f'<g transform="translate({x} {y})"><clipPath id="c{x:g}-{y:g}"><rect width="96" height="60" rx="5"/>'
        f'</clipPath><g clip-path="url(#c{x:g}-{y:g})"><rect width="96" height="60" fill="{back}"/>'
        f'<circle cx="76" cy="14" r="8" fill="{sun}"/>'
        f'<path d="M-4 48 Q28 22 58 42 T100 36 V64 H-4Z" fill="{hill}"/>'
        f'<path d="M26 40 h34 l-7 12 h-20z M42 14 l15 22 h-15z M39 18 v18 h-11z" fill="{boat}"/></g>'
        f'<rect width="96" height="60" rx="5" fill="none" stroke="{LINE}"/></g>'
    )


def keys(x: float, y: float) -> str:
    """A grid of cells in colors that change where the picture does."""
    cells = []
    for row in range(5):
        for column in range(8):
            boat = 2 <= column <= 4 and 1 <= row <= 4
            color = SEGMENTS[1] if boat else SEGMENTS[2] if row >= 3 else SEGMENTS[0]
            fade = 0.55 + 0.09 * ((3 * row + 5 * column) % 5)
            cells.append(
                f'<rect x="{x + 12 * column}" y="{y + 12 * row}" width="10.5" height="10.5" rx="2" fill="{color}" '
                f'fill-opacity="{fade:.2f}"/>'
            )
    return "".join(cells)


def drawing() -> str:
    Yhat, Ybar, Vbar = math("Y", "q", "hat"), math("Y", "q", "bar"), math("V", "q", "bar")
    parts = [
        f'<rect x="12" y="12" width="956" height="214" rx="14" fill="{PANEL}"/>',
        text(32, 42, "1 &#8194;Segments without labels", 17, INK, "start", 'font-weight="600"'),
        *(frame(36 + 8 * i, 70 + 8 * i) for i in range(3)),
        text(92, 172, "unlabelled video", 14, SOFT),
        arrow("M156 116 H190"),
        box(192, 90, 58, 52, E, "E"),
        arrow("M252 116 H288"),
        keys(292, 86),
        text(340, 170, f"keys {math('e')}, one a cell", 14, SOFT),
        arrow("M390 116 H442"),
        box(
            444, 84, 196, 64, A, "space-time k-means", f"{math('x')} = [{math('e')} ; &#955;{math('p')}] &#8194;(1)"
        ),
        arrow("M642 116 H852"),
        text(747, 104, "every 10 epochs anew", 14, SOFT),
        frame(856, 86, segments=True),
        text(904, 166, "pseudo masks", 14, SOFT),
        arrow("M340 178 V186", E),
        text(
            340,
            207,
            f"{math('L', 'short')} and {math('L', 'long')}: a crop and flip &#934; "
            "of frames must crop and flip the keys &#8194;(7) to (10)",
            14,
            INK,
        ),
        f'<rect x="12" y="240" width="956" height="318" rx="14" fill="{PANEL}"/>',
        text(32, 270, "2 &#8194;Learn to carry masks from frame to frame", 17, INK, "start", 'font-weight="600"'),
        frame(36, 290, mask=True),
        frame(36, 376),
        frame(36, 462),
        text(84, 365, f"{math('Y', 'r')}, mask", 14, SOFT),
        text(84, 451, f"{math('I', 'r')}, reference", 14, SOFT),
        text(84, 537, f"{math('I', 'q')}, query", 14, SOFT),
        arrow("M134 320 H190"),
        arrow("M134 396 L190 338"),
        arrow("M134 406 H190"),
        arrow("M134 492 H190"),
        box(192, 294, 58, 52, V, "V"),
        box(192, 380, 58, 52, E, "E"),
        box(192, 466, 58, 52, E, "E"),
        arrow("M252 406 L298 428"),
        arrow("M252 492 L298 464"),
        box(
            300,
            414,
            210,
            64,
            A,
            "affinity",
            f"{math('A')} = softmax({math('I', 'r')} {math('I', 'q')}&#7488; / &#964;) &#8194;(4)",
        ),
        arrow("M252 320 H536"),
        text(394, 310, f"{math('V', 'r')} and {math('Y', 'r')}", 14, SOFT),
        box(
            538,
            290,
            176,
            76,
            A,
            f"{math('V', 'q')} = {math('A')}&#7488; {math('V', 'r')} &#8194;(4)",
            f"{Ybar} = {math('A')}&#7488; {math('Y', 'r')} &#8194;(5)",
        ),
        arrow("M512 446 H600 V368"),
        arrow("M716 320 H768"),
        text(741, 311, math("V", "q"), 14, SOFT),
        box(770, 294, 60, 52, D, "D"),
        text(800, 285, "(6)", 14, SOFT),
        arrow("M832 320 H852"),
        frame(856, 290, mask=True),
        text(937, 365, Yhat, 14, SOFT),
        box(770, 428, 60, 52, V, "V"),
        arrow("M660 368 V454 H768"),
        text(712, 446, f"{Ybar} first", 14, SOFT),
        arrow("M800 426 V348"),
        text(819, 394, Vbar, 14, SOFT),
        arrow("M904 352 V454 H832", dashed=True),
        text(868, 474, f"then {Yhat}", 14, SOFT),
        text(800, 510, f"{math('R')} rounds of refinement", 14, INK),
        arrow("M904 174 V286", D),
        text(892, 262, f"{math('L', 'seg')}", 16, INK, "end"),
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 570" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">\n'
        "<title>The method: the encoder's keys of a video are clustered into pseudo masks; V and D learn to carry "
        "these masks along the affinity between frames.</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8z" fill="{SOFT}"/></marker></defs>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("method.svg").write_text(drawing(), encoding="utf-8")
