# SPDX-License-Identifier: GPL-3.0-or-later
"""Breakpoints: the marks at which a tier begins, where the search for a liquidation divides the path."""

from __future__ import annotations

import pytest
import scenario

from crossmargin_bt.engine.margin import metrics

LINEAR = "instrument X leverage=10 tiers=whole/0:0.01,1000:0.02,2000:0.05"
INVERSE = "currency BTC\ninstrument X leverage=10 inverse=true settle=BTC contract_size=100 tiers=whole/0:0.01,0.5:0.02"
PAIR = "instrument X kind=margin underlying=BTC lot=0.001 leverage=5 tiers=whole/0:0.03,8000:0.05,12500:0.1"
COINS = (
    "deposit BTC 10\ninstrument X kind=margin underlying=BTC settle=BTC quote=USDT lot=0.001 leverage=5 "
    "tiers=whole/0:0.03,0.8:0.05,1.25:0.1\ninstrument M kind=spot underlying=BTC lot=0.001\nmark M 10000"
)


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize(
    ("stage", "fill", "expected"),
    [
        # 10 are worth 1,000 at 100 and 2,000 at 200; a short's marks are those of the other direction.
        (LINEAR, "+10 @ 100", [(1, 100.0), (1, 200.0)]),
        (LINEAR, "-10 @ 100", [(-1, 100.0), (-1, 200.0)]),
        (LINEAR, "+1 @ 100", [(1, 1000.0), (1, 2000.0)]),
        # 10,000 USD are 0.5 BTC at 20,000.
        (INVERSE, "+100 @ 20000", [(1, 20_000.0)]),
        (INVERSE, "-100 @ 20000", [(-1, 20_000.0)]),
        # A long in dollars owes 10,000 at any price; a short owes a coin, worth 8,000 and 12,500 there.
        (PAIR, "+1000 @ 10000", []),
        (PAIR, "-1000 @ 10000", [(-1, 8_000.0), (-1, 12_500.0)]),
        # In coins the debt of 10,000 is 0.8 at 12,500 and 1.25 at 8,000, and a coin owed is one.
        (COINS, "+1000 @ 10000", [(1, 12_500.0), (1, 8_000.0)]),
        (COINS, "-1000 @ 10000", []),
    ],
)
def test_a_tier_begins_at_a_mark(stage: str, fill: str, expected: list[tuple[int, float]], mode: str) -> None:
    """Direction and mark of every bound, of a pool and of an isolated position."""
    done = scenario.run_text(f"mode {mode}\nfees 0 0\ncash 100000\n{stage}\nfill X {fill}")
    pool = next(one for one in metrics.pools(done.account) if any(symbol == "X" for symbol, _ in one.legs))
    found = metrics.breakpoints(done.account, pool)
    assert [(symbol, direction) for symbol, direction, _ in found] == [("X", direction) for direction, _ in expected]
    assert [mark for _, _, mark in found] == pytest.approx([mark for _, mark in expected])


@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_a_tier_at_the_entry_has_no_breakpoint(mode: str) -> None:
    """Where maintenance is measured at the entry, no mark changes its tier."""
    rules = "rule maintenance_price entry\nrule isolated_maintenance_price entry"
    done = scenario.run_text(f"mode {mode}\n{rules}\nfees 0 0\ncash 100000\n{LINEAR}\nfill X +10 @ 100")
    assert metrics.breakpoints(done.account, metrics.pools(done.account)[0]) == []


def test_orders_count_where_the_venue_counts_them() -> None:
    """OKX adds what an order opens: 5 more are worth 1,000 with the position at 66.67, and 2,000 at 133.33."""
    done = scenario.run_text(f"venue okx\nfees 0 0\ncash 100000\n{LINEAR}\nfill X +10 @ 100\norder X +5 @ 100")
    pool = metrics.pools(done.account)[0]
    assert [mark for *_, mark in metrics.breakpoints(done.account, pool)] == pytest.approx([200 / 3, 400 / 3])
    alone = metrics.breakpoints(done.account, pool, with_orders=False)
    assert [mark for *_, mark in alone] == pytest.approx([100.0, 200.0])
