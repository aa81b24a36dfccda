# SPDX-License-Identifier: GPL-3.0-or-later
"""Market data: downloads, imports and synthetic candles, their storage on disk, and reading them as frames."""
