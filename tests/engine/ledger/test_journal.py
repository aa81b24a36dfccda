# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal reads like the list of its entries, packed or not."""

import copy
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger import journal as journals
from crossmargin_bt.engine.ledger.journal import Journal
from crossmargin_bt.venues import load, names

KINDS = get_args(events.JournalEntry)
BLOCK = 3


@pytest.fixture(autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journals, "BLOCK", BLOCK)
        yield


RULES = [load(venue).rules.maintenance for venue in names()]


def entry_of(kind):
    """Draw an entry of a kind, each field by its type."""
    drawn = {
        field.name: st.deferred(lambda field=field: st.from_type(field.type)) for field in msgspec.structs.fields(kind)
    }
    if kind is events.MaintenanceChanged:
        drawn |= dict.fromkeys(("maintenance", "isolated"), st.sampled_from(RULES))
    if kind is events.RulesChanged:
        drawn["changed"] = st.dictionaries(st.text(), st.one_of(st.booleans(), st.integers(), st.text()))
    return st.builds(kind, **drawn)


ENTRIES = st.one_of([entry_of(kind) for kind in KINDS])


def kept(entries):
    journal = Journal()
    for entry in entries:
        journal.append(entry)
        journal.pack()
    return journal


@given(st.lists(ENTRIES, max_size=5 * BLOCK), st.data())
def test_reads_like_a_list(entries, data):
    journal = kept(entries)
    assert msgspec.json.encode(list(journal)) == msgspec.json.encode(entries)
    assert len(journal) == len(entries)
    bounds = st.none() | st.integers(-20, 20)
    piece = slice(data.draw(bounds), data.draw(bounds), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
    assert repr(journal[piece]) == repr(entries[piece])
    for place in range(-len(entries), len(entries)):
        assert repr(journal[place]) == repr(entries[place])
    assert repr(list(copy.deepcopy(journal))) == repr(entries)


def test_numbers_of_other_libraries_are_packed_as_pythons_own() -> None:
    """A figure that came in as NumPy's does not end a run."""
    journal = Journal()
    for n in range(4 * BLOCK):
        journal.append(events.CashTransferred(time_ms=np.int64(n), currency="USDT", amount=np.float64(n) / 2))
    journal.pack()
    assert journal[3] == events.CashTransferred(time_ms=3, currency="USDT", amount=1.5)
    assert (type(journal[3].time_ms), type(journal[3].amount)) == (int, float)
