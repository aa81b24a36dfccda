# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports from results: metrics, terminal tables, the HTML page and result files."""
