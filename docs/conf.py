# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings."""

from pathlib import Path

import crossmargin_bt
from crossmargin_bt import venues
from crossmargin_bt.report import rulebook_pages

project = "crossmargin_bt"
author = "the crossmargin_bt authors"
copyright = "the crossmargin_bt authors, GPL-3.0-or-later"
version = release = crossmargin_bt.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["growth.md", "_build", "candle-error.md"]
html_theme = "furo"
html_title = f"crossmargin_bt {version}"

# The rule books' pages are made from the profiles at every build.
rulebook_pages.write([venues.load(name) for name in venues.shipped()], Path(__file__).parent / "venues")
