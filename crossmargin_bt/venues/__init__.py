# SPDX-License-Identifier: GPL-3.0-or-later
"""Venues: one TOML file each, read into the rules the engine applies.

`load("okx")` reads a shipped profile, `load("path/to/my.toml")` a user's own.
"""

from importlib import resources
from pathlib import Path

import msgspec

from crossmargin_bt.engine.rules import Rules
from crossmargin_bt.errors import ConfigurationError, RuleError, suggestion


class Venue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule book: what the engine applies, where each value comes from, and what was assumed."""

    name: str
    title: str
    rules: Rules
    sources: dict[str, str]
    """A source for each key of `rules` that the venue publishes."""
    assumptions: tuple[str, ...] = ()
    """Sentences for the report: what was not published and is our guess."""

    @property
    def unsourced(self) -> list[str]:
        """The rules that no source is named for."""
        return [key for key in Rules.__struct_fields__ if key not in self.sources]


def names() -> list[str]:
    """Return the names of the shipped profiles, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load(venue: str) -> Venue:
    """Return a venue by its name, or from a TOML file when `venue` ends in .toml.

    Raises:
        ConfigurationError: there is no such venue or file.
        RuleError: the file breaks the schema; the text names the file and the key.
    """
    if str(venue).endswith(".toml"):
        path = Path(venue)
        if not path.is_file():
            raise ConfigurationError(f"venue file {venue} does not exist")
        return parse(path.read_text(encoding="utf-8"), str(venue))
    if venue not in names():
        raise ConfigurationError(
            f"unknown venue {venue!r}{suggestion(venue, names())} (or give the path of a .toml file)"
        )
    return parse(resources.files(__package__).joinpath(f"{venue}.toml").read_text(encoding="utf-8"), f"{venue}.toml")


def parse(text: str, file: str) -> Venue:
    """Return the venue in a TOML text; `file` is its name for errors.

    Raises:
        RuleError: the text is no TOML or breaks the schema.
    """
    try:
        return msgspec.toml.decode(text, type=Venue)
    except (msgspec.DecodeError, RuleError) as error:
        raise RuleError(f"{file}: {error}") from error
