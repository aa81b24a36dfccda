# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes in the settings of the broker; see wrong.py. Checked by tests/test_typing.py, never run."""

from crossmargin_bt import CrossMarginBroker


def misspelt() -> CrossMarginBroker:
    """There is no such setting."""
    return CrossMarginBroker(vneue="okx")  # error: call-arg


def wrong_amount() -> CrossMarginBroker:
    """Cash is a number."""
    return CrossMarginBroker(cash="much")  # error: arg-type


def by_position() -> CrossMarginBroker:
    """Settings have names."""
    return CrossMarginBroker(10_000.0)  # error: call-arg
