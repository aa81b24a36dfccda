# SPDX-License-Identifier: GPL-3.0-or-later
"""Attribution of differences between venues to rules.

A refusal or liquidation under one venue is evaluated again under the rules of another: the journal is
replayed up to the event and the decision repeated, first with the complete other rule book, then with
single rules replaced. A rule that changes the decision on its own is a reason; if no single rule does,
several combined are.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
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
from crossmargin_bt.engine.math.tolerances import SAME_MOMENT_TOL
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.results import RuleVerdict, RunResult, VenueDifference
from crossmargin_bt.venues import RULES, Venue


def differences(results: Sequence[RunResult], books: Mapping[str, Venue]) -> list[VenueDifference]:
    """Return how other venues would decide the first refusal and the first liquidation of every margin run.

    `books` maps venue names to rule books. Only decisions that differ are returned.
    """
    differing: list[VenueDifference] = []
    for result in results:
        others = [
            books[one.venue] for one in results
            if (one.strategy, one.mode) == (result.strategy, result.mode) and one.venue != result.venue
        ]  # fmt: skip
        if result.mode != "cash" and others:
            for event in _DecidedEvent.of(result):
                judged = [event.difference(books[result.venue], other) for other in others]
                differing.extend(one for one in judged if one is not None)
    return differing


class _DecidedEvent(NamedTuple):
    """A refusal or liquidation of a run, with the journal before it and the function that repeats the decision."""

    result: RunResult
    past: Sequence[events.JournalEntry]
    entry: Any
    judge: Callable[[Account, Any], RuleVerdict]
    instruments: Mapping[str, Instrument]

    @classmethod
    def of(cls, result: RunResult) -> "list[_DecidedEvent]":
        """Return the first refusal and the first liquidation that depend on venue rules.

        Refusals for other reasons, such as a size below one lot, record no prices and are skipped.
        """
        journal = [msgspec.convert(entry, type=events.JournalEntry) for entry in result.journal]
        traded = [msgspec.convert(one, type=Instrument) for one in result.instruments]
        instruments = {one.symbol: one for one in traded}
        kinds: tuple[tuple[type, Callable[[Account, Any], RuleVerdict]], ...] = (
            (events.OrderRefused, _admission),
            (events.Liquidated, _survival),
        )
        decided: list[_DecidedEvent] = []
        for kind, judge in kinds:
            at = next((n for n, one in enumerate(journal) if isinstance(one, kind) and one.prices), None)  # type: ignore[attr-defined]
            if at is not None:
                # `verdict` puts the rules and terms of that time in force itself.
                past = [
                    one for one in journal[:at] if not isinstance(one, events.MaintenanceChanged | events.RulesChanged)
                ]
                decided.append(cls(result, past, journal[at], judge, instruments))
        return decided

    def difference(self, book: Venue, other: Venue) -> VenueDifference | None:
        """Return how another venue decides the event; None if it decides the same."""
        moment = datetime.fromtimestamp(self.entry.time_ms / 1000, tz=UTC)
        mine, theirs = book.at(moment).rules, other.at(moment).rules
        own, foreign = self.verdict(mine), self.verdict(theirs)
        if own.passes or not foreign.passes:
            return None
        replaced = [(key, getattr(theirs, key)) for key in RULES if getattr(mine, key) != getattr(theirs, key)]
        reasons = [
            key
            for key, value in replaced
            if key != "maintenance" and self.verdict(_replace_rules(mine, {key: value})).passes
        ]
        rates = {"maintenance": theirs.maintenance, "contracts": theirs.contracts}
        if self.verdict(_replace_rules(mine, rates)).passes:
            reasons.append("maintenance")
        return VenueDifference(
            self.result.strategy, self.result.mode, self.result.venue, f"{format_time(self.entry.time_ms)} {describe(self.entry, self.result.currency)}", own,
            other.name, foreign, tuple(reasons),
        )  # fmt: skip

    def verdict(self, rules: Rules) -> RuleVerdict:
        """Return the decision under these rules.

        The account is replayed to just before the event and marked at the event's prices. Fills are replayed with
        their recorded amounts, so balances and positions do not depend on `rules`; contract terms are those of
        `rules` at that time.
        """
        # Recorded rate changes apply only under the volatility rule of the run.
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


def _replace_rules(rules: Rules, replaced: Mapping[str, Any]) -> Rules:
    return msgspec.structs.replace(rules, **replaced)


def _admission(account: Account, entry: events.OrderRefused) -> RuleVerdict:
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
        return RuleVerdict(False, answer.needed, answer.available)
    book = account.books[entry.symbol]
    book.orders.pop(entry.number, None)  # its own margin must not count against it
    return RuleVerdict(True, 0.0, max(0.0, metrics.available_margin(account, book)))


def _survival(account: Account, entry: events.Liquidated) -> RuleVerdict:
    pool = next(pool for pool in metrics.pools(account) if pool.name == entry.pool)
    risk = metrics.risk(account, pool)
    return RuleVerdict(risk.gap > SAME_MOMENT_TOL * risk.requirement, risk.requirement, risk.collateral)
