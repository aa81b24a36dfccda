# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules of which book a case guards: turn a rule, and some case has to fail.

PYTHONPATH=tests:. python -m rule_guards            # per book the rules that are guarded, and the others by name
PYTHONPATH=tests:. python -m rule_guards --write    # writes docs/guards.md
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import scenario
import worked
import worked_accounts
from places import TESTS
from published import test_published, test_recorded_accounts

from crossmargin_bt import venues
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.errors import RuleError
from crossmargin_bt.venues import Venue

SCALE = 1.1
PAGE = TESTS.parent / "docs" / "guards.md"


class Turn(NamedTuple):
    """One rule of a book with another answer: of the base, or of the change with index `change`."""

    venue: str
    key: str
    change: int | None
    answer: Any

    @property
    def label(self) -> str:
        """The rule in words, without the answer."""
        return (
            self.key
            if self.change is None
            else f"{self.key} since {venues.load(self.venue).changes[self.change].since}"
        )

    def apply(self, book: Venue) -> Venue:
        """Return the book with the other answer."""
        if self.change is None:
            return msgspec.structs.replace(book, rules=book.rules.changed({self.key: self.answer}))
        changes = list(book.changes)
        one = changes[self.change]
        changes[self.change] = msgspec.structs.replace(one, rules={**one.rules, self.key: self.answer})
        return msgspec.structs.replace(book, changes=tuple(changes))


def turns(name: str) -> Iterator[Turn]:
    """Yield every rule of a book that names a source with every other answer; of numbers and tables one other."""
    book = venues.load(name)
    for key in book.sources:
        for answer in others(key, getattr(book.rules, key)):
            yield Turn(name, key, None, answer)
    rules = book.rules
    for number, change in enumerate(book.changes):
        before, rules = rules, rules.changed(change.rules)
        for key in change.rules:
            yield Turn(name, key, number, msgspec.to_builtins(getattr(before, key)))


def number_turns(name: str) -> Iterator[tuple[str, list[Turn]]]:
    """Yield every number that a book writes in a table with a source, by its place, with that number a tenth higher and lower.

    Tables of portfolio margin are left out: most of their numbers are assumptions, which the book says.
    """
    book = venues.load(name)
    written = tomllib.loads(venues.text(name))["rules"]
    for key in book.sources:
        if key == "portfolio" or not isinstance(written.get(key), dict | list):
            continue
        plain = msgspec.to_builtins(getattr(book.rules, key))
        for place, number in _numbers(written[key]):
            others = [number * SCALE, number / SCALE] if number else [0.01]
            turned = [Turn(name, key, None, _replaced(plain, place, other)) for other in others]
            yield ".".join(map(str, (key, *place))), turned


def _numbers(table: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], float]]:
    """Yield the numbers of a table, each with its keys and indices; lists of plain values are turned as a whole elsewhere."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from _numbers(value, (*place, key))
    elif isinstance(table, list):
        for index, value in enumerate(table):
            if isinstance(value, dict):
                yield from _numbers(value, (*place, index))
    elif isinstance(table, int | float) and not isinstance(table, bool):
        yield place, table


def _replaced(table: Any, place: tuple[Any, ...], number: float) -> Any:
    """Return a table with another number at a place."""
    if not place:
        return number
    if isinstance(table, dict):
        return {**table, place[0]: _replaced(table[place[0]], place[1:], number)}
    return [_replaced(value, place[1:], number) if index == place[0] else value for index, value in enumerate(table)]


def unguarded_numbers(name: str) -> tuple[int, list[str]]:
    """Return how many numbers of tables with a source a book writes, and those that can be turned unnoticed."""
    count, found = 0, []
    for place, turned in number_turns(name):
        count += 1
        possible = [turn for turn in turned if _is_possible(turn)]
        if possible and not any(map(is_noticed, possible)):
            found.append(place)
    return count, found


def _is_possible(turn: Turn) -> bool:
    """Return whether a book with a turned rule can be read."""
    try:
        turn.apply(venues.load(turn.venue)).at()
    except RuleError:
        return False
    return True


USES: tuple[list[str], ...] = ([], ["cross_orders"], ["cross_orders", "isolated_orders", "withdrawals"])
STEPS: tuple[list[dict[str, str]], ...] = ([], [{"step": "reduce"}])


def others(key: str, value: Any) -> list[Any]:
    """Return the other answers that a rule may have, as a TOML file gives them."""
    kind = get_type_hints(Rules)[key]
    if isinstance(value, bool):
        return [not value]
    if get_origin(kind) is Literal:
        return [answer for answer in get_args(kind) if answer != value]
    if isinstance(value, float | int):
        return [value * SCALE, value / SCALE] if value else [0.01]
    plain = msgspec.to_builtins(value)
    listed: dict[str, Sequence[Any]] = {"profit_pays_for": USES, "liquidation": STEPS}
    if key == "warning_levels":
        return [[level * SCALE for level in plain]]
    return [
        answer for answer in listed.get(key, [scaled(plain)]) if answer != (list(plain) if key in listed else plain)
    ]


def scaled(plain: Any) -> Any:
    """Return a table with every rate and amount in it that is no threshold, multiple or list of moves a little higher."""
    if isinstance(plain, dict):
        return {
            key: value
            if key in ("notional_min", "amount_min", "leverage_max", "moves", "step", "rule")
            else scaled(value)
            for key, value in plain.items()
        }
    if isinstance(plain, list | tuple):
        return [scaled(one) for one in plain]
    return plain * 0.9 if isinstance(plain, float) and 0 < plain < 10 else plain


@contextmanager
def loading(change: Callable[[str, Venue], Venue]) -> Iterator[None]:
    """Have `venues.load` return what `change` makes of a book."""
    load = venues.load
    venues.load = lambda name: change(name, load(name))  # type: ignore[assignment]
    try:
        yield
    finally:
        venues.load = load


class Case(NamedTuple):
    """A case with figures, as a name and a function that raises where one is not met."""

    kind: Literal["published", "recorded", "worked"]
    name: str
    check: Callable[[], Any]
    venues: frozenset[str]


def _case(kind: Literal["published", "recorded", "worked"], name: str, check: Callable[[], Any]) -> Case:
    """Return a case with the books that it asks for."""
    asked = set[str]()

    def note(name: str, book: Venue) -> Venue:
        asked.add(name)
        return book

    with loading(note):
        check()
    return Case(kind, name, check, frozenset(asked))


@cache
def cases() -> list[Case]:
    """Return every case: scenarios, published examples, figures worked by hand, recorded accounts."""
    found = [_case("worked", path.stem, lambda path=path: scenario.run_file(path)) for path in scenario.files()]
    found += [
        _case("published", name, lambda name=name: test_published.test_published_number(name))
        for name in test_published.CHECKED
    ]
    found += [_case("worked", one.name, one.check) for one in worked.cases()]
    found += [_case("worked", name, check) for name, check in worked_accounts.cases()]
    found += [
        _case("recorded", check.__name__, lambda check=check, given=given: check(*given))
        for check, given in _recorded()
    ]
    return found


def _recorded() -> Iterator[tuple[Callable[..., None], tuple[Any, ...]]]:
    """Yield the tests of recorded accounts with their arguments."""
    for name, check in vars(test_recorded_accounts).items():
        if name.startswith("test_"):
            marks = [mark for mark in getattr(check, "pytestmark", ()) if mark.name == "parametrize"]
            yield from ((check, (value,)) for value in marks[0].args[1]) if marks else [(check, ())]


def is_noticed(turn: Turn) -> bool:
    """Return whether a case fails with the rule turned."""
    asking = [one for one in cases() if turn.venue in one.venues]
    with loading(lambda name, book: turn.apply(book) if name == turn.venue else book):
        return any(_fails(one.check) for one in asking)


def _fails(check: Callable[[], Any]) -> bool:
    try:
        check()
    except Exception:  # noqa: BLE001 - whatever stops a case is noticed
        return True
    return False


def unguarded(name: str) -> tuple[int, list[str]]:
    """Return how many rules of a book name a source, and those of which an answer can be turned unnoticed."""
    found: dict[str, list[Any]] = {}
    labels = []
    for turn in turns(name):
        labels.append(turn.label)
        if _is_possible(turn) and not is_noticed(turn):
            found.setdefault(turn.label, []).append(turn.answer)
    return len(dict.fromkeys(labels)), [f"{label} = {answers!r}"[:140] for label, answers in found.items()]


def page(missing: Callable[[str], int]) -> str:
    """Return docs/guards.md: per book how many rules are guarded, and by how many cases of which kind.

    `missing` returns how many rules of a book are not.
    """
    lines = [
        "# What guards a rule book",
        "",
        "A case compares figures on a shipped rule book, as it is on a day: a *published* worked example, a *recorded* answer of an",
        "exchange about an account, or a figure *worked* by hand from the sentence that the book names as the source of the rule",
        "(`tests/scenarios`, `tests/venues/worked.toml`, `tests/worked_accounts.py`). A test turns every rule that names a source to",
        "other answers, dated changes included, a number or a table by a tenth, and demands that a case fails. A slow test turns the",
        "single numbers of every table with a source, those of portfolio margin apart, most of which are assumptions. Terms of single",
        "contracts are not turned; Binance's recorded tables are held to the maintenance amounts that Binance prints beside them.",
        "Generated by `python -m rule_guards --write` in `tests`.",
        "",
        "| rule book | rules with a source | guarded | published | recorded | worked |",
        "|---|---|---|---|---|---|",
    ]
    for name in venues.shipped():
        count = len(dict.fromkeys(turn.label for turn in turns(name)))
        if not count:
            continue
        kinds = [one.kind for one in cases() if name in one.venues]
        numbers = " | ".join(str(kinds.count(kind)) for kind in ("published", "recorded", "worked"))
        lines.append(f"| {name} | {count} | {count - missing(name)} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if "--write" in sys.argv:
        PAGE.write_text(page(lambda name: len(unguarded(name)[1])), encoding="utf-8")
        return
    for name in venues.shipped():
        count, found = unguarded(name)
        sys.stdout.write(f"{name}: {count - len(found)} of {count}\n" + "".join(f"    {text}\n" for text in found))


if __name__ == "__main__":
    main()
