# SPDX-License-Identifier: GPL-3.0-or-later
"""What the data of a comparison lack, and which way that biases every run: told before any figure."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossmargin_bt.broker.session.bars import STEPS_READ
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import PRICES


def data_warnings(candles: Sequence[Candles]) -> list[str]:
    """Return the warnings about markets: no mark prices, no funding, an end before the others, halts."""
    texts = [text for one in candles for text in one.warnings]
    ends = {one.symbol: _end(one.frame) for one in candles if len(one.frame) > 1}
    latest = max((one.frame.index[-1] for one in candles if len(one.frame)), default=None)
    for one in candles:
        if one.symbol in ends and latest is not None and ends[one.symbol] <= latest and one.instrument.expiry is None:
            what = (
                "its coins stay at the last price"
                if one.instrument.kind == "spot"
                else "a position is settled at the last mark, with the venue's fee (cash mode keeps it at the last price)"
            )
            texts.append(
                f"{one.symbol}: its candles end at {one.frame.index[-1]:%Y-%m-%d %H:%M} while others go on: it counts as delisted, its "
                f"orders are cancelled and {what}; if only the download is older, bring it up to date"
            )
        texts += _halts(one)
    return texts


def _end(frame: pd.DataFrame) -> pd.Timestamp:
    """Return when the next bar would be due."""
    index = pd.DatetimeIndex(frame.index)[-STEPS_READ:]
    return index[-1] + min(index[1:] - index[:-1])


def _halts(one: Candles) -> list[str]:
    """Return the warning about bars of one price without volume, in a market whose volume is known."""
    if "volume" not in one.frame or not (one.frame["volume"] > 0).any():
        return []
    prices = one.frame[list(PRICES)].to_numpy()
    halted = np.flatnonzero((one.frame["volume"].to_numpy() == 0) & (prices.max(axis=1) == prices.min(axis=1)))
    if not len(halted):
        return []
    bars = "bar has" if len(halted) == 1 else "bars have"
    text = (
        f"{one.symbol}: {len(halted):,} {bars} one price and no volume, as in a halt (first {one.frame.index[halted[0]]:%Y-%m-%d %H:%M}); "
        "orders fill in them unless the broker has fill_in_halts=False"
    )
    return [text]
