"""Configuration of the site: Sphinx with MyST, built by `make docs`. It reads no network."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from generate import write_pages  # noqa: E402

project = "vos_umec"
author = "The vos_umec authors"
copyright = "The vos_umec authors, Apache-2.0"
version = release = version_of("vos-umec")
repository = "https://github.com/vos-umec/vos_umec"

extensions = [
    "myst_nb",  # Markdown, and the notebooks with the outputs that they have
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings in Google style
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["pictures", "performance/*.md", "reference/commands/_list.md"]
suppress_warnings = [
    "myst.header",  # pages written by programs may skip a level of headings
    "mystnb.unknown_mime_type",  # an output of a notebook that no page can show beside one that it can
]

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make notebooks` runs them
nb_merge_streams = True

default_role = "py:obj"  # docstrings put code between single backticks; a name becomes a link where there is one
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "notes")]

html_theme = "furo"
html_title = f"vos_umec {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_sphinx = False
COLORED = ("color-brand-primary", "color-brand-content", "color-api-name")
html_theme_options = {
    "source_repository": repository,
    "source_branch": "main",
    "source_directory": "docs/",
    "light_logo": "icon.svg",
    "dark_logo": "icon.svg",
    "light_css_variables": dict.fromkeys(COLORED, "#0b6b6b"),
    "dark_css_variables": dict.fromkeys(COLORED, "#5ec8c0"),
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    app.connect("source-read", _link_to_repository)
    app.connect("include-read", lambda app, path, docname, content: _link_to_repository(app, docname, content))
    app.connect("autodoc-process-docstring", _escape)


html_math_renderer = "mathml"  # browsers show MathML themselves: no script, and nothing to download


def _inline_math(writer, node):
    writer.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block_math(writer, node):
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    writer.body.append(f'<div class="math">{number}{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _mathml(latex: str, display: str) -> str:
    formula = convert(latex.strip(), display=display)
    ElementTree.fromstring(formula)  # raises on what no browser could read
    return formula


def _link_to_repository(app: Sphinx, docname: str, content: list[str]) -> None:
    """Links to files of the repository that are no pages of the site lead to the repository."""

    def link(found: re.Match[str]) -> str:
        target = (HERE / Path(docname).parent / found[1]).resolve()
        if target.is_relative_to(HERE) or not target.exists():
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({repository}/{kind}/main/{target.relative_to(HERE.parent).as_posix()}{found[2]})"

    content[0] = re.sub(r"\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)", lambda m: link(m), content[0])


def _escape(app, what, name, obj, options, lines) -> None:
    """`|x|` and `a*b` in a docstring are an absolute value and a product, and no markup of reStructuredText."""
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            words = re.split(r"(`[^`]*`)", line)
            words[::2] = [re.sub(r"\|(?=\S)|(?<=[\w')\]])\*(?=[\w(])", r"\\\g<0>", word) for word in words[::2]]
            lines[i] = "".join(words)
