# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule books: they load, name their sources, and say where a file is wrong."""

import ast
from pathlib import Path

import msgspec
import pytest

import crossmargin_bt
from crossmargin_bt import venues
from crossmargin_bt.errors import ConfigurationError, RuleError

TEXT = (Path(venues.__file__).parent / "generic.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", venues.names())
def test_profiles_load_and_say_where_values_come_from(name: str) -> None:
    """Every source is about a rule; every rule that is no venue's is an assumption in words."""
    venue = venues.load(name)
    assert venue.name == name
    assert set(venue.sources) <= set(venues.RULES)
    assert set(venue.statements) == set(venues.TOPICS)
    assert venue.assumptions
    assert all(terms.source for terms in venue.rules.contracts)


def test_unknown_venue_suggests_the_nearest() -> None:
    """A typo costs one look."""
    with pytest.raises(ConfigurationError, match="did you mean 'okx'"):
        venues.load("okxx")
    with pytest.raises(ConfigurationError, match="does not exist"):
        venues.load("mine.toml")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("taker = 0.0005", 'taker = "high"', r"Expected `float`, got `str` - at `\$.rules.taker`"),
        ("taker = 0.0005", "takr = 0.0005", r"unknown field `takr` - at `\$.rules`"),
        ('order_offset = "sum"', 'order_offset = "all"', r"Invalid enum value 'all' - at `\$.rules.order_offset`"),
        ("maintenance_rate = 0.005", "maintenance_rate = 2.0", "maintenance rate 2"),
        ("[rules]", "[rules", "mine.toml"),
        ("taker = 0.0005", "taker = 5", "taker is a fraction"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, old: str, new: str, text: str) -> None:
    """The file, the key and what was expected."""
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(RuleError, match=text) as caught:
        venues.load(str(file))
    assert "mine.toml" in str(caught.value)


def test_a_users_own_file_is_a_venue(tmp_path: Path) -> None:
    """A new venue is a new file."""
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace('order_offset = "sum"', 'order_offset = "net"'), encoding="utf-8")
    assert venues.load(str(file)).rules.order_offset == "net"
    assert (
        msgspec.structs.asdict(venues.load(str(file)).rules).keys()
        == msgspec.structs.asdict(venues.load("okx").rules).keys()
    )


def test_no_code_asks_for_a_venue_by_name() -> None:
    """What differs between venues is data."""
    known = set(venues.names()) - {"generic"}
    for file in Path(crossmargin_bt.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.Match):
                named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & known
                assert not named, f"{file.name}:{node.lineno} compares with {named}"
