# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports: figures, terminal tables and files made from results."""
