# SPDX-License-Identifier: GPL-3.0-or-later
"""Venue rule books as Markdown pages: one per venue, a page of differences, and an index."""

from collections.abc import Sequence
from pathlib import Path

from crossmargin_bt.report import rule_text
from crossmargin_bt.venues import RULES, TOPICS, Statement, Venue

TIER_HEADS = ("value from", "rate", "deduction", "maximum leverage")


def write(venues: Sequence[Venue], folder: Path) -> None:
    """Write all pages into `folder`, which is created if missing; other files in it are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for venue in venues:
        (folder / f"{venue.name}.md").write_text(page(venue), encoding="utf-8")
    (folder / "differences.md").write_text(differences(venues), encoding="utf-8")
    (folder / "index.md").write_text(index(venues), encoding="utf-8")


def index(venues: Sequence[Venue]) -> str:
    """Return the index page."""
    names = "\n".join(venue.name for venue in venues)
    return (
        "# Rule books\n\nEvery page is generated from the venue's TOML file; `crossmargin venues show NAME` prints the same. To define your own\n"
        "venue, copy a file with `crossmargin venues show okx --toml > mine.toml`, edit it and pass its path to `--venue`.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\ndifferences\n{names}\n```\n"
    )


def _source(venue: Venue, key: str) -> str:
    """Return the source of a rule, "*assumed*", or "-" if the rule needs none."""
    without = "*assumed*" if key in venue.unsourced else "-"
    return venue.sources.get(key, without)


def page(venue: Venue) -> str:
    """Return the page of one venue: rules with formulas and sources, tiers, contracts, statements, assumptions."""
    every, venue = venue, venue.at()
    changes, rules = _changes(every), venue.rules
    in_force = f"in force since {venue.known_since}" if venue.known_since else "in force"
    lines = [
        f"# {venue.title}",
        "",
        f'`venue="{venue.name}"`',
        "",
        *changes,
        "## Rules",
        "",
        f"The latest, {in_force}.",
        "",
    ]
    lines += _table(
        ("rule", "value", "source"),
        [
            (f"{rule_text.TITLES[key]} (`{key}`)", rule_text.describe_rule(rules, key), _source(venue, key))
            for key in RULES
        ],
    )
    lines += ["", "## Maintenance", "", f"`{rule_text.maintenance_formula(rules.maintenance)}`", ""]
    rows = rule_text.tier_rows(rules.maintenance)
    if rows:
        lines += _table(TIER_HEADS, rows)
    lines += _contracts(every if rule_text.has_many_contracts(every) else venue)
    lines += ["", "## Other rules", ""]
    said = [(topic.replace("_", " "), venue.statements[topic]) for topic in TOPICS if topic in venue.statements]
    lines += _table(
        ("topic", "what the venue does", "simulated", "source"),
        [(topic, one.says, _simulated(one), one.source or "-") for topic, one in said],
    )
    lines += ["", "## Assumptions", "", *(f"- {text}" for text in venue.assumptions)]
    return "\n".join(lines) + "\n"


def _contracts(venue: Venue) -> list[str]:
    """Return the terms of single contracts: each in full, or of many contracts a line for each."""
    lines: list[str] = []
    if rule_text.has_many_contracts(venue):
        text = (
            f"Tiers by date of single contracts; `crossmargin venues show {venue.name} --contract SYMBOL` prints them."
        )
        rows = rule_text.contract_rows(venue.rules.contracts)
        return ["", "## Contracts", "", text, "", *_table(rule_text.CONTRACT_HEADS, rows)]
    for terms in venue.rules.contracts:
        since = f" from {terms.since}" if terms.since else ""
        head = f"**{', '.join(terms.symbols)}{since}**: `{rule_text.maintenance_formula(terms.maintenance)}`. Source: {terms.source}."
        lines += ["", head, ""]
        if rule_text.tier_rows(terms.maintenance):
            lines += _table(TIER_HEADS, rule_text.tier_rows(terms.maintenance))
        if terms.isolated is not None:
            lines += ["", f"In isolated mode: `{rule_text.maintenance_formula(terms.isolated)}`."]
    return lines


def _simulated(said: Statement) -> str:
    """Return whether runs follow a practice, with the test case that shows it."""
    if not said.simulated:
        return "no"
    return f"yes (`{said.scenario}`)" if said.scenario else "yes"


def _changes(venue: Venue) -> list[str]:
    """Return the section with the time line of dated changes; empty if there is none."""
    changes = rule_text.change_rows(venue)
    if not changes:
        return []
    known = f"Rules are established from {venue.known_since} on. " if venue.known_since else ""
    rows = [
        (since, f"`{key}`", before, after, f"{says} Source: {source}")
        for since, key, before, after, says, source in changes
    ]
    text = f"{known}A run uses the rules of each of its days; the sections below show the latest."
    return ["## Changes by date", "", text, "", *_table(("since", "rule", "before", "after", "what changed"), rows), ""]


def differences(venues: Sequence[Venue]) -> str:
    """Return the page of differences: for each rule its latest values, each with the venues that use it."""
    venues = [venue.at() for venue in venues]
    lines = ["# Differences between venues", ""]
    for key in RULES:
        values: dict[str, list[str]] = {}
        for venue in venues:
            for text, who in _values(venue, key):
                values.setdefault(text, []).append(who)
        if len(values) > 1:
            lines += [f"## {rule_text.TITLES[key].capitalize()}", ""]
            ranked = sorted(values.items(), key=lambda pair: (-len(pair[1]), pair[0]))
            lines += [*_table(("value", "venues"), [(text, ", ".join(names)) for text, names in ranked]), ""]
    return "\n".join(lines)


def _values(venue: Venue, key: str) -> list[tuple[str, str]]:
    """Return a venue's value of a rule, and for maintenance rates also those of contracts with their own."""
    values = [(rule_text.describe_rule(venue.rules, key), venue.name)]
    if key == "maintenance":
        by_formula: dict[str, list[str]] = {}
        for symbol, terms in {terms.symbols[0]: terms for terms in venue.rules.contracts}.items():
            by_formula.setdefault(rule_text.maintenance_formula(terms.maintenance), []).append(symbol)
        for formula, symbols in by_formula.items():
            count = f"{len(symbols)} contracts"
            named = count if len(symbols) > rule_text.CONTRACTS_MAX else ", ".join(symbols)
            values.append((formula, f"{venue.name} ({named})"))
    return values


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]
