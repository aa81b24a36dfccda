# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings."""

import crossmargin_bt

project = "crossmargin_bt"
author = "the crossmargin_bt authors"
copyright = "the crossmargin_bt authors, GPL-3.0-or-later"
version = release = crossmargin_bt.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"crossmargin_bt {version}"
