# SPDX-License-Identifier: GPL-3.0-or-later
"""What journal entries, their fields and their values were called when the digests were recorded, by what they are called now."""

EVENTS: dict[str, str] = {}
FIELDS: dict[str, str] = {}
# By (event as it was, field as it was, value now).
VALUES: dict[tuple[str, str, str], str] = {}
