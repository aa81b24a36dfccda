# SPDX-License-Identifier: GPL-3.0-or-later
"""Why venues differ: a refusal or liquidation of one venue, judged by the rules of the others.

The account is brought back from the journal to the moment of the event; then the same question is
asked under another rule book, and under the first one with single rules exchanged. The rule that
alone turns the answer is the reason; where none does, several together are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.explain.describe import describe, format_time
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.results import Difference, RunResult, Verdict
from crossmargin_bt.venues import RULES, Venue


def differences(
    results: Sequence[RunResult], books: Mapping[str, Venue], instruments: Mapping[str, Instrument]
) -> list[Difference]:
    """Return, for every run on a margin account, how the other venues judge its first refusal and first liquidation.

    `books` holds the rule books by the venue's name. Only judgements that differ are returned.
    """
    found: list[Difference] = []
    for result in results:
        others = [
            books[one.venue] for one in results
            if (one.strategy, one.mode) == (result.strategy, result.mode) and one.venue != result.venue
        ]  # fmt: skip
        if result.mode != "cash" and others:
            for event in _Event.of(result, instruments):
                asked = [event.difference(books[result.venue], other) for other in others]
                found.extend(one for one in asked if one is not None)
    return found


class _Event(NamedTuple):
    """A refusal or a liquidation of a run, with what came before it and the question it answered."""

    result: RunResult
    past: Sequence[events.JournalEntry]
    entry: Any
    judge: Callable[[Account, Any], Verdict]
    instruments: Mapping[str, Instrument]

    @classmethod
    def of(cls, result: RunResult, instruments: Mapping[str, Instrument]) -> "list[_Event]":
        """Return the first of each kind that rules decided: not a size below a lot, or a misspelt keyword."""
        journal = [msgspec.convert(entry, type=events.JournalEntry) for entry in result.journal]
        kinds: tuple[tuple[type, Callable[[Account, Any], Verdict]], ...] = (
            (events.OrderRefused, _admission),
            (events.Liquidated, _survival),
        )
        found: list[_Event] = []
        for kind, judge in kinds:
            at = next((n for n, one in enumerate(journal) if isinstance(one, kind) and one.prices), None)  # type: ignore[attr-defined]
            if at is not None:
                past = [one for one in journal[:at] if not isinstance(one, events.MaintenanceChanged)]
                found.append(cls(result, past, journal[at], judge, instruments))
        return found

    def difference(self, book: Venue, other: Venue) -> Difference | None:
        """Return what another venue makes of the event, or None where it is the same."""
        mine, theirs = book.rules, other.rules
        own, foreign = self.verdict(mine), self.verdict(theirs)
        if own.passes or not foreign.passes:
            return None
        exchanged = [(key, getattr(theirs, key)) for key in RULES if getattr(mine, key) != getattr(theirs, key)]
        reasons = [
            key for key, value in exchanged if key != "maintenance" and self.verdict(_with(mine, {key: value})).passes
        ]
        rates = {"maintenance": theirs.maintenance, "contracts": theirs.contracts}
        if self.verdict(_with(mine, rates)).passes:
            reasons.append("maintenance")
        return Difference(
            self.result.strategy, self.result.mode, self.result.venue, f"{format_time(self.entry.time_ms)} {describe(self.entry, self.result.currency)}", own,
            other.name, foreign, tuple(reasons),
        )  # fmt: skip

    def verdict(self, rules: Rules) -> Verdict:
        """Return the answer under these rules.

        The account is brought back to before the event, at the event's prices. Fills carry their amounts, so money
        and positions are those of the run whatever the rules; terms of contracts are those of the rules at that time.
        """
        # Rates follow volatility as they did only under the rule that they followed it by.
        scaled = msgspec.to_builtins(rules.volatility_scaling) == self.result.rules["volatility_scaling"]
        past = [one for one in self.past if scaled or not isinstance(one, events.RatesScaled)]
        account = replay(past, rules, self.instruments, **self.result.setup)
        account.now_ms = self.entry.time_ms
        for symbol, book in account.books.items():
            terms = [one for one in rules.terms(symbol) if one.since_ms <= self.entry.time_ms]
            if terms and book.instrument.maintenance is None:
                rates = terms[-1].rates
                account.apply(
                    events.MaintenanceChanged(
                        time_ms=self.entry.time_ms,
                        symbol=symbol,
                        maintenance=rates["cross"],
                        isolated=rates["isolated"],
                        source=terms[-1].source,
                    )
                )
        account.set_prices(self.entry.prices)
        return self.judge(account, self.entry)


def _with(rules: Rules, exchanged: Mapping[str, Any]) -> Rules:
    return msgspec.structs.replace(rules, **exchanged)


def _admission(account: Account, entry: events.OrderRefused) -> Verdict:
    if entry.at_fill:
        fill = fills.order_fill(
            account, entry.time_ms, entry.symbol, entry.side,
            number=entry.number, lots=entry.lots, price=entry.price, maker=False,
        )  # fmt: skip
        answer: Refusal | OpenOrder | None = order_admission.admit_fill(account, fill)
    else:
        order = OpenOrder(
            entry.number, entry.side, entry.lots, entry.price, group=entry.group, immediate=entry.immediate
        )
        answer = order_admission.admit(account, entry.symbol, order)
    if isinstance(answer, Refusal):
        return Verdict(False, answer.needed, answer.available)
    book = account.books[entry.symbol]
    book.orders.pop(entry.number, None)  # what it locks is for itself
    return Verdict(True, 0.0, max(0.0, metrics.available_margin(account, book)))


def _survival(account: Account, entry: events.Liquidated) -> Verdict:
    pool = next(pool for pool in metrics.pools(account) if pool.name == entry.pool)
    risk = metrics.risk(account, pool)
    return Verdict(risk.gap > TINY * risk.requirement, risk.requirement, risk.collateral)


# At the moment of a liquidation collateral and requirement are equal but for rounding.
TINY = 1e-6
