# SPDX-License-Identifier: GPL-3.0-or-later
"""The margin engine: accounts, positions, orders, requirements and liquidation.

An `Account` changes in place, by entries of the journal alone; entries, positions, orders and rules are plain values.

Nothing here knows backtrader, files, clocks or random numbers. Time enters as integer
milliseconds since 1970-01-01 UTC, prices and amounts as float64, sizes as whole lots.
"""
