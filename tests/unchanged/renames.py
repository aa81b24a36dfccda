# SPDX-License-Identifier: GPL-3.0-or-later
"""What journal entries, their fields and their values were called when the digests were recorded, by what they are called now."""

from crossmargin_bt.report import upgrade

EVENTS = {now: before for before, now in upgrade.EVENTS.items()}
FIELDS: dict[str, str] = {}
# By (event as it was, field as it was, value now).
VALUES = {("RiskState", "state", now): before for before, now in upgrade.STATES.items()}
