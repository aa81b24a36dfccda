# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m crossmargin_bt.cli`."""

from crossmargin_bt.cli import main

main()
