# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin mode and leverage per feed: what was set before a run holds for every run, what a run sets ends with it."""

import math
from collections.abc import Mapping, Sequence

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
        if leverage is not None and not (isinstance(leverage, int | float) and 1 <= leverage < math.inf):
            raise ConfigurationError(f"leverage of {name} must be 1 or more, got {leverage!r}")
        if isinstance(leverage, int | float) and leverage > leverage_max:
            raise ConfigurationError(f"leverage {leverage:g} of {name} is above its maximum of {leverage_max:g}")
        if margin_mode is not None:
            one_of("margin mode", margin_mode, MARGIN_MODES)


def one_of(setting: str, value: object, known: Sequence[str]) -> None:
    """Check a value against those there are.

    Raises:
        ConfigurationError: it is none of them.
    """
    if value not in known:
        raise ConfigurationError(f"unknown {setting} {value!r}{suggestion(value, known)}")
