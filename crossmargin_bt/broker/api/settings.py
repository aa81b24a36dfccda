# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin mode and leverage per feed: what was set before a run holds for every run, what a run sets ends with it. And whether
what the broker was given can be used.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crossmargin_bt.broker.session.reserve import Reserve
from crossmargin_bt.engine.math.numbers import to_python_number
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, suggestion

MARGIN_MODES = ("isolated", "cross")
MODES = ("cash", *MARGIN_MODES, "portfolio")


class Settings:
    """Leverage and margin mode by feed name, with the broker's params as what holds otherwise."""

    def __init__(self, mode: str, leverage: float | Mapping[str, float]) -> None:
        self._mode = "cross" if mode == "portfolio" else mode
        self._leverage = 1.0
        self._declared: dict[str, dict[str, float | str]] = {}
        self._in_run: dict[str, dict[str, float | str]] | None = None
        if isinstance(leverage, Mapping):
            for name, value in leverage.items():
                self.set(name, leverage=value)
        else:
            self.check("the account", leverage=leverage)
            self._leverage = float(leverage)

    @property
    def declared(self) -> list[str]:
        """The feed names that something was set for."""
        return list(self._declared)

    def begin_run(self) -> None:
        """Start from what was declared; changes from now on last for this run."""
        self._in_run = {name: dict(values) for name, values in self._declared.items()}

    def end_run(self) -> None:
        """Return to what was declared."""
        self._in_run = None

    def set(self, name: str, *, leverage: float | None = None, margin_mode: str | None = None) -> None:
        """Change what is given.

        Raises:
            ConfigurationError: see `check`.
        """
        self.check(name, leverage=leverage, margin_mode=margin_mode)
        values = (self._declared if self._in_run is None else self._in_run).setdefault(name, {})
        if leverage is not None:
            values["leverage"] = float(leverage)
        if margin_mode is not None:
            values["margin_mode"] = margin_mode

    def of(self, name: str) -> tuple[str, float]:
        """Return the margin mode and leverage of a feed."""
        values = (self._declared if self._in_run is None else self._in_run).get(name, {})
        return str(values.get("margin_mode", self._mode)), float(values.get("leverage", self._leverage))

    @staticmethod
    def check(
        name: str, *, leverage: object = None, margin_mode: str | None = None, leverage_max: float = math.inf
    ) -> None:
        """Check values before they are taken.

        Raises:
            ConfigurationError: the leverage is not a number between 1 and the maximum, or there is no such mode.
        """
        if leverage is not None:
            number = number_of(f"leverage of {name}", leverage)
            if not 1 <= number < math.inf:
                raise ConfigurationError(f"leverage of {name} must be 1 or more, got {leverage!r}")
            if number > leverage_max:
                raise ConfigurationError(f"leverage {number:g} of {name} is above its maximum of {leverage_max:g}")
        if margin_mode is not None:
            one_of("margin mode", margin_mode, MARGIN_MODES)


def one_of(setting: str, value: object, known: Sequence[str]) -> None:
    """Check a value against those there are.

    Raises:
        ConfigurationError: it is none of them.
    """
    if value not in known:
        raise ConfigurationError(f"unknown {setting} {value!r}{suggestion(value, known)}")


def number_of(what: str, given: object) -> float:
    """Return a number of any library as Python's own; true, false and NaN are none.

    Raises:
        ConfigurationError: it is none.
    """
    number = to_python_number(given)
    if number is None or math.isnan(number):
        raise ConfigurationError(f"{what} must be a number, got {given!r}")
    return number


def finite_of(what: str, given: object) -> float:
    """Return the same of a number that is not infinite.

    Raises:
        ConfigurationError: it is none.
    """
    number = number_of(what, given)
    if math.isinf(number):
        raise ConfigurationError(f"{what} must be a number, got {given!r}")
    return number


def not_negative(what: str, given: object) -> None:
    """Refuse what is no finite number from 0 on.

    Raises:
        ConfigurationError: it is none.
    """
    if finite_of(what, given) < 0:
        raise ConfigurationError(f"{what} must not be negative, got {given!r}")


def cash_of(given: object) -> float:
    """Return the cash an account starts with; refuse what none can."""
    number = number_of("cash", given)
    if not 0 < number < math.inf:
        raise ConfigurationError(f"cash must be above 0, got {given!r}")
    return number


def amounts_of(name: str, given: Any) -> dict[str, float] | None:
    """Return amounts by currency; refuse what cannot be used."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise ConfigurationError(f"{name} is a dict by currency, got {type(given).__name__}")
    amounts = {currency: finite_of(f"{name} of {currency}", amount) for currency, amount in given.items()}
    for currency, amount in amounts.items():
        if amount < 0:
            raise ConfigurationError(f"{name} of {currency} must not be negative, got {amount!r}")
    return amounts


def take_risk_control(params: Any) -> None:
    """Take the settings of risk control as Python's own numbers; refuse what cannot be used."""
    levels = params.warning_levels
    if not isinstance(levels, list | tuple):
        raise ConfigurationError(f"warning_levels are margin levels above 1 (3.0 is 300 %), got {levels!r}")
    params.warning_levels = tuple(finite_of("a warning level", level) for level in levels)
    if not all(level > 1 for level in params.warning_levels):
        raise ConfigurationError(f"warning_levels are margin levels above 1 (3.0 is 300 %), got {levels!r}")
    for name in ("liquidation_slippage", "liquidation_impact"):
        given = getattr(params, name)
        part = number_of(name, given)
        if not 0 <= part < 1:
            raise ConfigurationError(f"{name} lies from 0 to below 1 (0.001 is 0.1 %), got {given!r}")
        setattr(params, name, part)
    if params.reserve is not None and not isinstance(params.reserve, Reserve):
        raise ConfigurationError(f"reserve is a Reserve(amount=, at_level=, to_level=), got {params.reserve!r}")
    params.insurance_fund = number_of("insurance_fund", params.insurance_fund)
    if params.insurance_fund < 0:
        raise ConfigurationError(f"insurance_fund must not be negative, got {params.insurance_fund!r}")


def check_instruments(given: Any) -> None:
    """Refuse what is no dict of instruments."""
    if given is None:
        return
    if not isinstance(given, dict) or not all(isinstance(one, Instrument) for one in given.values()):
        raise ConfigurationError(
            "instruments is a dict of Instrument by feed name: {'BTCUSDT': Instrument(symbol=...)}"
        )
