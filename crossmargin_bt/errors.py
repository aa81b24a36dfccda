# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of crossmargin_bt.

    CrossMarginError
     +-- ConfigurationError (ValueError)   a setting of the broker or the command line
     +-- RuleError (ValueError)            a venue's rule file or an instrument
     +-- FeedError (ValueError)            candles that cannot be traded on
     +-- StrategyFileError (ValueError)    a strategy that cannot be loaded
     +-- StoreError (OSError)              stored market data that cannot be read or written
     +-- DownloadError                     an exchange that did not answer, or not what was asked

A refused order is not an error: it is an outcome, delivered to `notify_order` with the reason in
`order.info.reject` (see `crossmargin_bt.engine.ledger.refusal.Refusal`). A broken invariant of the
engine is an AssertionError.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CrossMarginError(Exception):
    """Anything a user can put right; the text says what was wrong, where, and what to do next."""


class ConfigurationError(CrossMarginError, ValueError):
    """A setting has a value that cannot be used."""


class RuleError(CrossMarginError, ValueError):
    """A venue's rule file or an instrument contradicts itself."""


class FeedError(CrossMarginError, ValueError):
    """Candles are missing, broken or not comparable."""


class StoreError(CrossMarginError, OSError):
    """Stored market data is broken, or the disk does not take it."""


class DownloadError(CrossMarginError):
    """An exchange did not answer, or not what was asked."""


class StrategyFileError(CrossMarginError, ValueError):
    """A strategy file does not import or holds no such strategy."""


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for a near miss, else "; choose one of x, y".

    >>> suggestion("reduceonly", ["reduce_only", "position_side"])
    "; did you mean 'reduce_only'?"
    """
    names = list(known)
    near = get_close_matches(str(word), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(names)}"
