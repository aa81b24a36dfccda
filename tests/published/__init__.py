# SPDX-License-Identifier: GPL-3.0-or-later
"""Published examples, worked through accounts, instruments and rules."""
