# SPDX-License-Identifier: GPL-3.0-or-later
"""How long hours, days and years are. Markets that never close count 365 days a year."""

MS_PER_HOUR = 3_600_000
MS_PER_DAY = 24 * MS_PER_HOUR
DAYS_PER_YEAR = 365
MS_PER_YEAR = DAYS_PER_YEAR * MS_PER_DAY
HOURS_PER_YEAR = 24 * DAYS_PER_YEAR
