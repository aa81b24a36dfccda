# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the positions of an account surely keep between the thresholds they stand between.

What `stands` looks at is a part of what `stands_between` does. It is written by itself because it runs in every bar: the whole
of it there makes the loop two thirds slower.
"""

from crossmargin_bt.batch.figuring import (
    compiled,
    compiled_in_place,
    dearer,
    gain_of,
    least_requirement_of,
    requirement_of,
    worth_of,
)

# Bounds are widened by this part, which is more than rounding.
HAIR = 1e-9


@compiled_in_place
def stands(mark, bar, high, low, contracts, tables, terms, level, lots, entry, margin, collateral):
    """Return whether no pool can come down to a margin level while marks lie between two of a bar's."""
    required = 0.0
    for i in range(len(lots)):
        if lots[i] == 0:
            continue
        highest, lowest = mark[i, bar, high], mark[i, bar, low]
        price = dearer(contracts, i, dearer(contracts, i, highest, lowest), entry[i])
        needs = requirement_of(contracts, tables, i, worth_of(contracts, i, lots[i], price))
        floating = gain_of(contracts, i, lots[i], entry[i], lowest if lots[i] > 0 else highest)
        if terms.isolated:
            if not margin[i] + floating > level * needs * (1 + HAIR):
                return False
        else:
            required += needs
            collateral += floating
    return required == 0 or terms.isolated or collateral > level * required * (1 + HAIR)


@compiled
def stands_between(mark, bar, high, low, contracts, tables, terms, levels, acted, lots, entry, margin, balance):
    """Return whether no pool can come to a threshold, or back above one that has acted, while marks lie between two of a bar's."""
    required, least, worst, best = 0.0, 0.0, balance, balance
    for i in range(len(lots)):
        if lots[i] == 0:
            if acted[i] != 0 and terms.isolated:
                return False
            continue
        highest, lowest = mark[i, bar, high], mark[i, bar, low]
        values = (
            worth_of(contracts, i, lots[i], highest),
            worth_of(contracts, i, lots[i], lowest),
            worth_of(contracts, i, lots[i], entry[i]),
        )
        most = requirement_of(contracts, tables, i, max(values))
        fewest = least_requirement_of(contracts, tables, i, min(values))
        against, for_it = (lowest, highest) if lots[i] > 0 else (highest, lowest)
        down = gain_of(contracts, i, lots[i], entry[i], against)
        up = gain_of(contracts, i, lots[i], entry[i], for_it)
        if terms.isolated and not _is_between(levels, acted[i], margin[i] + down, margin[i] + up, most, fewest):
            return False
        required, least, worst, best = required + most, least + fewest, worst + down, best + up
    return terms.isolated or _is_between(levels, acted[0], worst, best, required, least)


@compiled
def _is_between(levels, acted, worst, best, most, least):
    """Return whether collateral and requirement within these bounds meet no threshold, and leave those met as they are."""
    if not (most == 0 or worst > levels[acted] * most * (1 + HAIR)):
        return False
    return acted == 0 or best < levels[acted - 1] * least * (1 - HAIR)
