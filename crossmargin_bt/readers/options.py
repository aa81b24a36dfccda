# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user states about the times in files and tables. Imports nothing, so that the command line loads at once."""

from typing import NamedTuple


class TimeOptions(NamedTuple):
    """The format of times that are text, as for `strptime`, and whether times before 2009 and after tomorrow are accepted."""

    time_format: str | None = None
    allow_unusual_times: bool = False


DEFAULT_TIMES = TimeOptions()
