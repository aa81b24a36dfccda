# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of crossmargin_bt, all of them below `CrossMarginError`::

    CrossMarginError
     +-- ConfigurationError (ValueError)   a setting of the broker or the command line
     +-- RuleError (ValueError)            a venue's rule file or an instrument
     +-- FeedError (ValueError)            candles that cannot be traded on
     +-- StrategyFileError (ValueError)    a strategy that cannot be loaded
     +-- StoreError (OSError)              stored market data that cannot be read or written
     +-- DownloadError                     an exchange that did not answer, or gave another answer than was requested

A refused order is not an error: it is an outcome, delivered to `notify_order` with a `Refusal` in
`order.info.reject`. A broken invariant of the engine is an AssertionError.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CrossMarginError(Exception):
    """Base of all errors that a user can correct; the text names the fault, its place and the next step."""


class ConfigurationError(CrossMarginError, ValueError):
    """A setting has an unusable value, or a feed, venue or file that it names does not exist."""


class RuleError(CrossMarginError, ValueError):
    """A venue's rule file or an instrument contradicts itself."""


class FeedError(CrossMarginError, ValueError):
    """Candles are missing, broken or not comparable."""


class StoreError(CrossMarginError, OSError):
    """Stored market data cannot be read, or not be written."""


class DownloadError(CrossMarginError):
    """An exchange did not answer, or gave another answer than was requested."""


class StrategyFileError(CrossMarginError, ValueError):
    """A strategy file cannot be imported, or does not contain the strategy."""


DECODE_ERRORS = (ValueError, RecursionError)
"""What decoding JSON or TOML raises for broken content: wrong syntax or values, no text, absurd nesting."""


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for a near miss, else "; choose one of x, y".

    >>> suggestion("reduceonly", ["reduce_only", "position_side"])
    "; did you mean 'reduce_only'?"
    """
    names = list(known)
    near = get_close_matches(str(word), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(names)}"
