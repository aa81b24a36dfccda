# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths of hours, days and years. Crypto markets trade every day, so a year has 365 days."""

MS_PER_HOUR = 3_600_000
MS_PER_DAY = 24 * MS_PER_HOUR
DAYS_PER_YEAR = 365
MS_PER_YEAR = DAYS_PER_YEAR * MS_PER_DAY
HOURS_PER_YEAR = 24 * DAYS_PER_YEAR
