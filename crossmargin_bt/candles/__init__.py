# SPDX-License-Identifier: GPL-3.0-or-later
"""Market data: the generator behind the sample, and folders of candles."""
