"""Sphinx configuration: MyST pages, Furo theme, docstrings of the rooms."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "qstack"
copyright = "the qstack authors"
author = "the qstack authors"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "parts"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "qstack"


def setup(app: Sphinx) -> None:
    """Show diagrams as their text; viewers that can draw Mermaid will."""
    app.add_lexer("mermaid", TextLexer)
