# SPDX-License-Identifier: GPL-3.0-or-later
"""Venues: one TOML file per venue, decoded into the rules that the engine applies.

`load("okx")` reads a shipped profile, `load("path/to/my.toml")` a user's own file. An installed package adds a venue by an entry
point of the group `crossmargin_bt.venues`: its name is the venue's name, its object is the path of the TOML file.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import msgspec

from crossmargin_bt.engine.terms.rules import ContractTerms, RuleChange, Rules, start_ms
from crossmargin_bt.errors import DECODE_ERRORS, ConfigurationError, RuleError, suggestion
from crossmargin_bt.printable import control_text
from crossmargin_bt.time_units import MS_PER_DAY
from crossmargin_bt.venues import tiers

ENTRY_POINTS = "crossmargin_bt.venues"

Topic = Literal[
    "pools", "ratio", "warning", "order_cancellation", "liquidation", "takeover", "collateral", "interest", "funding",
    "validity",
]  # fmt: skip
TOPICS: tuple[Topic, ...] = get_args(Topic)


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A venue's practice on a topic that no rule covers, and whether simulated runs follow it."""

    says: str
    simulated: bool
    source: str = ""
    scenario: str = ""
    """The case that shows that runs follow it: a file of `tests/scenarios`, or another case of the tests by its name."""


class VenueChange(RuleChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dated change of a rule book: rules, and the statements that are made anew with them."""

    statements: dict[Topic, Statement] = msgspec.field(default_factory=dict)


class Venue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule book: the rules that the engine applies, the source of each value, the assumptions, and changes by date.

    Raises:
        RuleError: the changes are not in the order of their dates, two of one day change the same key, or one leads to
            rules that violate the schema.
    """

    name: str
    title: str
    rules: Rules
    sources: dict[str, str]
    """Source of each key of `rules` that the venue publishes."""
    assumptions: tuple[str, ...] = ()
    """Sentences for the report: values that the venue does not publish and that are assumed here."""
    contracts: Literal["linear", "inverse", "both"] = "both"
    """The kind of contract that the default rates are for: amounts in the quote currency, or in coin."""
    statements: dict[Topic, Statement] = {}
    """Further practice of the venue in words: pools, thresholds, liquidation steps, collateral, interest, validity."""
    known_since: date | None = None
    """The day from which `rules` are established; runs before it use them too, which is an assumption."""
    changes: tuple[VenueChange, ...] = ()
    """Changes of the rules after `known_since`, the oldest first."""
    tiers: str = ""
    """A JSON file of tier tables by date beside this file (`crossmargin_bt.venues.tiers`), or of this package."""

    def __post_init__(self) -> None:
        before, since = set[str](), None
        for change in self.changes:
            if since is not None and change.since_ms < since.since_ms:
                raise RuleError(
                    f"the change of {change.since} is listed after the later one of {since.since}; sort them by date"
                )
            if self.known_since is not None and change.since_ms <= start_ms(self.known_since):
                raise RuleError(f"the change of {change.since} is not after known_since ({self.known_since})")
            if since is None or change.since_ms > since.since_ms:
                before, since = set(), change
            twice = sorted(before & set(change.rules))
            if twice:
                raise RuleError(f"two changes of {change.since} give {twice[0]}; a key has one value a day")
            before |= set(change.rules)
        rules = self.rules
        for change in self.changes:
            try:
                rules = rules.changed(change.rules)
            except RuleError as error:
                raise RuleError(f"the change of {change.since}: {error}") from error

    def at(self, day: date | None = None) -> "Venue":
        """Return the rule book as of a day (the latest without one): its rules are those in force, later changes remain.

        A change within the day counts as in force.
        """
        end_ms = math.inf if day is None else start_ms(day) + (0 if isinstance(day, datetime) else MS_PER_DAY - 1)
        due = [change for change in self.changes if change.since_ms <= end_ms]
        contracts = _terms_at(self.rules.contracts, end_ms)
        if not due and contracts == self.rules.contracts:
            return self
        rules, sources, statements = self.rules, dict(self.sources), dict(self.statements)
        rules = msgspec.structs.replace(rules, contracts=contracts)
        for change in due:
            rules = rules.changed(change.rules)
            sources.update(dict.fromkeys(change.rules, f"{change.source} (since {change.since})"))
            statements.update(change.statements)
        last = due[-1].since if due else self.known_since
        known = last if last is None else datetime.fromtimestamp(start_ms(last) / 1000, tz=UTC).date()
        return msgspec.structs.replace(
            self,
            rules=rules,
            sources=sources,
            statements=statements,
            known_since=known,
            changes=self.changes[len(due) :],
        )

    def with_rules(self, function: Callable[[Rules], Rules]) -> "Venue":
        """Return the rule book with `function` applied to the rules of every period."""
        before, made = self.rules, function(self.rules)
        changes = []
        for change in self.changes:
            before = before.changed(change.rules)
            after = function(before)
            values = {key: getattr(after, key) for key in RULES if getattr(after, key) != getattr(made, key)}
            changes.append(msgspec.structs.replace(change, rules=msgspec.to_builtins(values)))
            made = after
        changed = tuple(change for change in changes if change.rules)
        return msgspec.structs.replace(self, rules=function(self.rules), changes=changed)

    @property
    def unsourced(self) -> list[str]:
        """Keys of the rules without a source; unset rules need none."""
        return [key for key in RULES if key not in self.sources and getattr(self.rules, key) not in (None, ())]

    @property
    def assumed(self) -> tuple[str, ...]:
        """Assumptions for the report: the sentences, and the rules without a source."""
        without = self.unsourced
        return (*self.assumptions, f"no source for {', '.join(without)}") if without else self.assumptions


def _terms_at(contracts: Sequence[ContractTerms], end_ms: float) -> tuple[ContractTerms, ...]:
    """Return the terms of contracts without those that others have replaced by a time."""
    latest: dict[str, int] = {}
    for one in contracts:
        for symbol in one.symbols:
            if one.since_ms <= end_ms:
                latest[symbol] = max(latest.get(symbol, 0), one.since_ms)
    kept = []
    for one in contracts:
        symbols = tuple(symbol for symbol in one.symbols if one.since_ms >= latest.get(symbol, 0))
        if symbols:
            kept.append(one if symbols == one.symbols else msgspec.structs.replace(one, symbols=symbols))
    return tuple(kept)


# The rules with one value per venue; the terms of single contracts state their own source.
RULES = tuple(key for key in Rules.__struct_fields__ if key != "contracts")


def shipped() -> list[str]:
    """Return the names of the profiles of this package, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def names() -> list[str]:
    """Return the names of all profiles, those of installed packages included, sorted."""
    return sorted({*shipped(), *metadata.entry_points(group=ENTRY_POINTS).names})


def load(venue: str) -> Venue:
    """Return a venue by its name, or from a TOML file when `venue` ends in .toml.

    Raises:
        ConfigurationError: the venue or file does not exist.
        RuleError: the file violates the schema; the text names the file and the key.
    """
    file = _file(venue)
    name = file.name if venue in shipped() else str(file)
    found = parse(text(venue), name)
    if not str(venue).endswith(".toml") and found.name != venue:
        raise RuleError(
            f"{file}: the venue is named {found.name!r}, its entry point {venue!r}; give both the same name"
        )
    return _with_own_tiers(text(venue), name, _tier_file(file, found.tiers)) if found.tiers else found


def load_with(venue: str | Venue, file: Path | None) -> Venue:
    """Return a venue, given as such or by its name or TOML file, with the terms of a tiers file if one is given.

    Raises:
        ConfigurationError, RuleError: see `load` and `crossmargin_bt.venues.tiers.read`.
    """
    book = venue if isinstance(venue, Venue) else load(venue)
    if file is None:
        return book
    terms = tiers.read(file)
    try:
        return with_tiers(book, terms)
    except RuleError as error:
        raise RuleError(f"{file}: {error}") from error


def with_tiers(venue: Venue, terms: Sequence[ContractTerms]) -> Venue:
    """Return the venue with these terms, which replace all of its own terms of the same contracts."""
    replaced = {symbol for one in terms for symbol in one.symbols}
    contracts = []
    for one in venue.rules.contracts:
        others = tuple(symbol for symbol in one.symbols if symbol not in replaced)
        if others:
            contracts.append(msgspec.structs.replace(one, symbols=others))
    rules = msgspec.structs.replace(venue.rules, contracts=(*contracts, *terms))
    return msgspec.structs.replace(venue, rules=rules)


def _tier_file(file: Traversable, name: str) -> bytes:
    """Return the content of the tiers file that a venue's file names: beside it, or one of this package.

    Raises:
        RuleError: there is none.
    """
    beside = file.parent / name if isinstance(file, Path) else None
    found = beside if beside is not None and beside.is_file() else resources.files(__package__).joinpath(name)
    if not found.is_file():
        raise RuleError(f"{file}: tiers names {name!r}, which is no file beside it; give the name of a JSON file there")
    return found.read_bytes()


@lru_cache(maxsize=16)
def _with_own_tiers(text: str, file: str, content: bytes) -> Venue:
    venue = parse(text, file)
    return with_tiers(venue, tiers.parse(content, f"{file}, {venue.tiers}"))


def text(venue: str) -> str:
    """Return the text of a venue's file.

    Raises:
        ConfigurationError: the venue or file does not exist.
        RuleError: the file is not UTF-8 text.
    """
    file = _file(venue)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RuleError(f"{file}: the file is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _file(venue: str) -> Traversable:
    if str(venue).endswith(".toml"):
        path = Path(venue)
        if not path.is_file():
            raise ConfigurationError(f"venue file {venue} does not exist")
        return path
    if venue in shipped():
        return resources.files(__package__).joinpath(f"{venue}.toml")
    if venue not in names():
        raise ConfigurationError(
            f"unknown venue {venue!r}{suggestion(venue, names())} (or give the path of a .toml file)"
        )
    return _added(venue)


def _added(venue: str) -> Traversable:
    """Return the file of a venue that an installed package registers."""
    entry = next(iter(metadata.entry_points(group=ENTRY_POINTS, name=venue)))
    try:
        file = entry.load()
    except Exception as error:
        raise ConfigurationError(
            f"entry point {entry.value} of venue {venue!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(file, Traversable | str):
        raise ConfigurationError(
            f"entry point {entry.value} of venue {venue!r} is {type(file).__name__}; it must be the path of a TOML file"
        )
    path = Path(file) if isinstance(file, str) else file
    if not path.is_file():
        raise ConfigurationError(f"entry point {entry.value} of venue {venue!r} names {path}, which is not a file")
    return path


@lru_cache(maxsize=64)
def parse(text: str, file: str) -> Venue:
    """Return the venue in a TOML text; `file` is the name that errors use.

    Raises:
        RuleError: the text is not TOML or violates the schema.
    """
    try:
        venue = msgspec.toml.decode(text, type=Venue)
    except DECODE_ERRORS as error:
        raise RuleError(f"{file}{_line(text, str(error))}: {error}{_hint(text, str(error))}") from error
    told = control_text(
        [venue.name, venue.title, *venue.assumptions, *venue.sources.values(), msgspec.to_builtins(venue.statements)]
    )
    if told:
        raise RuleError(f"{file}: {told} has control characters")
    if not venue.name:
        raise RuleError(f"{file}: name is empty; give the name by which the venue is loaded")
    for key in venue.sources:
        if key not in RULES:
            raise RuleError(f"{file}: sources names {key!r}, which is not a rule{suggestion(key, RULES)}")
    return venue


def _line(text: str, message: str) -> str:
    """Return ":" and the line of the dated change that a message is about, empty if it is about none."""
    lines = list(enumerate(text.splitlines(), 1))
    heads = [number for number, line in lines if re.match(r"\s*\[\[\s*changes\s*\]\]", line)]
    numbered, dated = re.search(r"changes\[(\d+)\]", message), re.search(r"changes? of ([0-9-]+)", message)
    if numbered is not None and int(numbered[1]) < len(heads):
        return f":{heads[int(numbered[1])]}"
    if dated is None or not heads:
        return ""
    # Only what follows the first change: terms of contracts have dates too.
    found = [number for number, line in lines if number > heads[0] and re.match(rf"\s*since\s*=\s*{dated[1]}", line)]
    return f":{found[-1]}" if found else ""


FIELDS_AT: dict[str, type[msgspec.Struct]] = {
    "": Venue,
    ".rules": Rules,
    ".rules.contracts": ContractTerms,
    ".changes": VenueChange,
}


def _hint(text: str, message: str) -> str:
    """Return a correction to append to a decoder's message: the valid answers, the nearest key, the form of a date."""
    changed = re.search(r"(\w+): Invalid enum value", message)
    key = changed[1] if changed else message.rpartition("`$")[2].strip("`").rpartition(".")[2].partition("[")[0]
    choices = get_args(get_type_hints(Rules).get(key))
    if "Invalid enum value" in message and choices:
        words = [word for choice in choices for word in (get_args(choice) or (choice,)) if isinstance(word, str)]
        return f"; choose from {', '.join(words)}"
    if "unknown field" in message:
        wrong = message.partition("unknown field `")[2].partition("`")[0]
        path = re.sub(r"\[\d*\.*\]", "", message.partition("`$")[2].strip("`"))
        where = FIELDS_AT.get(path)
        return suggestion(wrong, where.__struct_fields__) if where is not None else ""
    broken = re.search(r"at line (\d+)", message)
    if broken is not None and re.match(r"\s*(known_)?since\s*=", text.splitlines()[int(broken[1]) - 1]):
        return "; a date is written 2022-02-16, without quotes"
    if "`date" in message:
        return "; write a day without quotes and without a time (since = 2022-02-16)"
    return ""
