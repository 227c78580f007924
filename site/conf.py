"""Settings of Sphinx for the site; `build.py` lays out the pages."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

project = "World models, built and taken apart"
author = "The wmlib authors"
html_title = "World models"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}  # no scripts from elsewhere
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # exercises are headings of the third level in any section
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/icon.svg"
nb_code_prompt_show = "Show the {type}"
nb_code_prompt_hide = "Hide the {type}"
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_math_renderer = "mathml"


def mathml(tex: str, display: str) -> str:
    """TeX as MathML, with what the converter misses: tildes, primes, spaces around functions."""
    tex = re.sub(r"\\(mathbb|mathcal) (\w)", r"\\\1{\2}", tex)  # without braces it is plain
    text = convert(tex, display=display).replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    prime = '<mo lspace="0" rspace="0">&#x02032;</mo>'
    text = re.sub(r"<msup>(<mi>\w</mi>)<mi>&#x02032;</mi></msup>", rf"<mrow>\1{prime}</mrow>", text)
    space, name = '<mspace width="0.17em"/>', "<mi>(?:ln|log|sin|tanh|max|min)</mi>"
    text = re.sub(rf"(?<!<ms..>)({name})(?=<m(?!o))", rf"\1{space}", text)
    return re.sub(rf"(</m[in]>|</msub>|&#x00029;</mo>)({name})", rf"\1{space}\2", text)


def show_math(self: Any, node: nodes.Element) -> None:
    """Write TeX as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    tag, kind = ("div", "block") if block else ("span", "inline")
    self.body.append(f'<{tag} class="math">{mathml(node.astext(), kind)}</{tag}>')
    raise nodes.SkipNode


def add_players(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Load the scripts of the players, where there are any, on the pages that show one."""
    if 'class="wmlib-player"' in context.get("body", ""):
        for name in ("wmlib-pages.js", "wmlib-player.js"):
            if Path(app.outdir, "_static", name).is_file():
                app.add_js_file(name, loading_method="defer")
        app.add_js_file("theme.js")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (show_math, None), (show_math, None))
    app.connect("html-page-context", add_players)
