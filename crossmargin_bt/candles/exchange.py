# SPDX-License-Identifier: GPL-3.0-or-later
"""One exchange through ccxt: what it has, its markets, and rows for a span, asked for until it answers."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import ccxt.async_support as ccxt

from crossmargin_bt.candles.products import product
from crossmargin_bt.candles.series import Row, Series, in_file_names
from crossmargin_bt.candles.spans import Span
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, DownloadError, RuleError, suggestion
from crossmargin_bt.time_units import MS_PER_HOUR
from crossmargin_bt.venues.tiers import Row as TierRow
from crossmargin_bt.venues.tiers import short_symbol

METHODS = {
    "candles": "fetchOHLCV",
    "mark": "fetchMarkOHLCV",
    "index": "fetchIndexOHLCV",
    "funding": "fetchFundingRateHistory",
}
PRICED_BY = ("mark", "index")
# Rows an exchange gives at once. What ccxt says of itself is the rest of the answer; a cap that is lower is found out.
CANDLES_AT_ONCE = {"binanceusdm": 1000, "binancecoinm": 500, "binance": 1000}
FUNDING_AT_ONCE = {"binanceusdm": 1000, "binancecoinm": 1000, "bybit": 200}
FEWEST_AT_ONCE = 100
# ccxt gives OKX no end of a span of funding; its own name for it is this.
FUNDING_END = {"okx": "after"}
TIERS_IN_CONTRACTS = frozenset({"okx", "myokx", "okxus"})
# Options are nobody's candles here, and their markets are most of what is listed.
OPTIONS: dict[str, Any] = {
    "okx": {"fetchMarkets": {"types": ["spot", "swap", "future"]}},
    "bybit": {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}},
}
# The highest leverage of a contract whose exchange does not say.
LEVERAGE_MAX = 125.0
# A pause that an exchange asks for is taken up to this long; beyond it the download ends.
WAIT_MAX_S = 900.0
HTTP_ERROR = 400
PAUSE_MAX_S = 30.0
# The body of an answer that broke off is no JSON, and ccxt stumbles over it.
GARBLED = (TypeError, AttributeError, KeyError, IndexError, ValueError)


class Market(NamedTuple):
    """A market by the exchange's unified symbol and by the name its files have here."""

    unified: str
    name: str


class Exchange:
    """A ccxt client, opened as an asynchronous context.

    Args:
        name: ccxt's id (`binanceusdm`).
        api_base: a server that stands in for every host of the exchange (a mirror, a proxy).
        rate_limited: whether requests keep to the rate that ccxt knows.
        tries: how often a request is sent before it counts as failed.
        pause_s: the first pause between tries in seconds; it doubles from one to the next.
        on_wait: told of a pause in seconds and why.

    Raises:
        ConfigurationError: ccxt knows no such exchange.
    """

    def __init__(
        self, name: str, *, api_base: str | None = None, rate_limited: bool = True, tries: int = 8, pause_s: float = 0.5,
        on_wait: Callable[[float, str], None] = lambda _seconds, _why: None, credentials: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if name not in ccxt.exchanges:
            raise ConfigurationError(f"ccxt knows no exchange {name!r}{suggestion(name, ccxt.exchanges)}")
        settings = {"enableRateLimit": rate_limited, "options": OPTIONS.get(name, {}), **(credentials or {})}
        self.name = name
        self._client: Any = getattr(ccxt, name)(settings)
        if api_base is not None:
            point_at(self._client, api_base)
        self._tries, self._pause_s, self._on_wait = tries, pause_s, on_wait
        self._closed_until = self._asked_s = 0.0
        self._client.on_rest_response = self._noted

    async def __aenter__(self) -> Self:
        try:
            await self._call("load_markets", True, take=_not_empty)
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    def lacks(self, kind: str) -> str | None:
        """Return what the exchange has no method for, None where it has one."""
        if kind == "markets":
            return None
        if kind == "tiers":
            has = any(self._client.has.get(name) for name in ("fetchLeverageTiers", "fetchMarketLeverageTiers"))
            return None if has else "fetchLeverageTiers"
        return None if self._client.has.get(METHODS[kind]) else METHODS[kind]

    def lacks_timeframe(self, timeframe: str) -> str | None:
        """Return the timeframes there are instead, None where there is this one."""
        known = self._client.timeframes or {}
        return None if not known or timeframe in known else ", ".join(known)

    def market(self, text: str) -> Market:
        """Return a market by its unified symbol, the exchange's own name of it, or the name of its files.

        Raises:
            ConfigurationError: there is none, or there are several.
        """
        markets = self._client.markets
        if text in markets:
            return Market(text, self._name(markets[text]))
        found = [symbol for symbol, one in markets.items() if text in (self._name(one), one["id"])]
        perpetual = [symbol for symbol in found if markets[symbol].get("swap")]
        chosen = perpetual or found
        if len(chosen) != 1:
            some = suggestion(text, markets) if not found else f"; write one of {', '.join(sorted(found))}"
            raise ConfigurationError(f"{self.name} has {'several markets' if found else 'no market'} {text!r}{some}")
        return Market(chosen[0], self._name(markets[chosen[0]]))

    def _name(self, market: Mapping[str, Any]) -> str:
        """Return the name of a market's files; of two perpetuals of one pair only the linear one has the short name."""
        name = stored_name(market)
        if market.get("inverse") and f"{market['base']}/{market['quote']}:{market['quote']}" in self._client.markets:
            return in_file_names(str(market["symbol"]))
        return name

    def contract(self, market: Market) -> Instrument:
        """Return the facts of a contract, without its tiers.

        Raises:
            DownloadError: what the exchange says of it makes no contract.
        """
        one = self._client.markets[market.unified]
        limits = one.get("limits") or {}
        try:
            return Instrument(
                symbol=market.name,
                settle=one.get("settle") or one["quote"],
                contract_size=float(one.get("contractSize") or 1.0),
                lot=self._step(one, "amount") or 0.0,
                tick=self._step(one, "price") or 0.0,
                notional_min=float((limits.get("cost") or {}).get("min") or 0.0),
                leverage_max=float((limits.get("leverage") or {}).get("max") or LEVERAGE_MAX),
                inverse=bool(one.get("inverse")),
                underlying=one["base"],
                maker=one.get("maker"),
                taker=one.get("taker"),
                **product(one),
            )
        except RuleError as error:
            raise DownloadError(f"{self.name} describes {market.unified} as no contract: {error}") from error

    def at_once(self, series: Series) -> int:
        """Return the length of the window that one answer holds, in milliseconds."""
        if not series.step:
            return FUNDING_AT_ONCE.get(self.name, FEWEST_AT_ONCE) * MS_PER_HOUR
        features = ((self._client.features or {}).get("swap") or {}).get("linear") or {}
        said = features.get("fetchOHLCV") or {}
        rows = CANDLES_AT_ONCE.get(self.name, said.get(series.kind) or said.get("limit") or FEWEST_AT_ONCE)
        return int(rows) * series.step

    async def now(self) -> int:
        """Return the exchange's time in milliseconds; this computer's where it tells none."""
        if self._client.has.get("fetchTime"):
            return int(await self._call("fetch_time", take=int))
        return int(self._client.milliseconds())

    async def rows(self, market: Market, series: Series, span: Span) -> Sequence[Row]:
        """Return what the exchange gives for a span; rows without usable values are left out."""
        start, end = span
        if series.kind == "funding":
            limit = FUNDING_AT_ONCE.get(self.name, FEWEST_AT_ONCE)
            end_of: dict[str, Any] = {FUNDING_END.get(self.name, "until"): end}
            return list(
                await self._call(
                    "fetch_funding_rate_history", market.unified, start, limit, end_of,
                    take=lambda answer: [
                        Row(int(one["timestamp"]), (float(one["fundingRate"]),)) for one in answer if _is_settlement(one)
                    ],
                )
            )  # fmt: skip
        limit = max(1, min((end - start) // series.step, self.at_once(series) // series.step))
        params: dict[str, Any] = {"until": end - 1}
        if series.kind in PRICED_BY:
            params["price"] = series.kind
        width = len(series.columns)
        return list(
            await self._call(
                "fetch_ohlcv", market.unified, series.timeframe, start, limit, params,
                take=lambda answer: [
                    Row(int(one[0]), tuple(float(x or 0.0) for x in one[1 : 1 + width])) for one in answer if _is_candle(one)
                ],
            )
        )  # fmt: skip

    async def tiers(self, markets: Sequence[Market]) -> dict[str, list[TierRow]]:
        """Return the tier tables of contracts by unified symbol; where the exchange prints deductions, with them.

        Raises:
            DownloadError: the exchange wants credentials for it, or does not answer.
        """
        symbols = [market.unified for market in markets]
        if self._client.has.get("fetchLeverageTiers") is True:
            answer = await self._call("fetch_leverage_tiers", symbols)
        else:
            answer = {symbol: await self._call("fetch_market_leverage_tiers", symbol) for symbol in symbols}
        found = {}
        for symbol in symbols:
            if symbol not in answer:
                raise DownloadError(f"{self.name} gives no leverage tiers of {symbol}")
            in_contracts = await self._value_of_contract(symbol) if self.name in TIERS_IN_CONTRACTS else 1.0
            found[symbol] = [_tier(one, in_contracts) for one in answer[symbol]]
        return found

    async def _value_of_contract(self, symbol: str) -> float:
        """Return what a contract is worth now: OKX counts its tiers in contracts."""
        ticker = await self._call("fetch_ticker", symbol)
        size = float(self._client.markets[symbol].get("contractSize") or 1.0)
        return size if self._client.markets[symbol].get("inverse") else size * float(ticker["last"])

    def _step(self, one: Mapping[str, Any], of: str) -> float | None:
        value = (one.get("precision") or {}).get(of)
        if value is None:
            return None
        return float(value) if self._client.precisionMode == ccxt.TICK_SIZE else 10.0 ** -int(value)

    async def _call(self, method: str, *arguments: Any, take: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """Return what a method answers, as `take` takes it; failures that may pass are tried again, after a pause.

        Raises:
            DownloadError: it failed for good, or too often.
        """
        for attempt in range(1, self._tries + 1):
            await self._wait_for_the_gate()
            try:
                return take(await getattr(self._client, method)(*arguments))
            except ccxt.AuthenticationError as error:
                raise DownloadError(
                    f"{self.name} wants credentials for {method}: set CROSSMARGIN_API_KEY and CROSSMARGIN_API_SECRET ({error})"
                ) from error
            except (ccxt.OperationFailed, ccxt.ExchangeError, *GARBLED) as error:
                if not _may_pass(error):
                    raise DownloadError(f"{self.name} refuses {method}: {error}") from error
                if attempt == self._tries:
                    raise DownloadError(f"{self.name} failed {attempt} times in {method}: {error!r:.300}") from error
                self._close_the_gate(attempt, error)
        raise AssertionError("a loop that returns or raises")

    def _close_the_gate(self, attempt: int, error: Exception) -> None:
        """Hold all requests back: as long as the exchange asks, else longer from failure to failure."""
        asked, self._asked_s = self._asked_s, 0.0
        if asked > WAIT_MAX_S:
            raise DownloadError(f"{self.name} asks to come back in {asked:g} s; run the same command again then")
        pause = min(PAUSE_MAX_S, self._pause_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        pause = max(pause, asked)
        self._on_wait(pause, type(error).__name__)
        self._closed_until = max(self._closed_until, asyncio.get_running_loop().time() + pause)

    def _noted(
        self, status: int, _reason: str, _url: str, _method: str, headers: Mapping[str, str], body: str, *_: Any
    ) -> str:
        """Take from every answer, before ccxt reads it, how long the exchange asks to be left alone."""
        given = next((value for key, value in headers.items() if key.lower() == "retry-after"), "")
        if status >= HTTP_ERROR and given.isdigit():
            self._asked_s = max(self._asked_s, float(given))
        return body

    async def _wait_for_the_gate(self) -> None:
        # Meanwhile another request may have closed it for longer.
        while (left := self._closed_until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)


def point_at(client: Any, base: str) -> None:
    """Let every host of a ccxt client be another server; the paths stay."""

    def moved(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: moved(value) for key, value in node.items()}
        return base.rstrip("/") + urlsplit(str(node).replace("{hostname}", "host")).path

    client.urls["api"] = moved(client.urls["api"])


def stored_name(market: Mapping[str, Any]) -> str:
    """Return the name of a market's files: BTCUSDT for a perpetual, else the unified symbol without its signs."""
    symbol = str(market["symbol"])
    return short_symbol(symbol) if market.get("swap") else in_file_names(symbol)


def _not_empty(markets: Any) -> Any:
    if not markets:
        raise ValueError("an exchange without markets")
    return markets


def _may_pass(error: Exception) -> bool:
    """Return whether a failure may be over at the next try: the network's, a broken answer, an exchange that is busy."""
    # Of what ccxt cannot name no more than that the exchange said no, nothing is known.
    if isinstance(error, (ccxt.OperationFailed, *GARBLED)) or type(error) is ccxt.ExchangeError:
        return True
    # ccxt files connections that broke off within a body with the exchange's refusals.
    return isinstance(error.__cause__, aiohttp.ClientError)


def _is_candle(one: Sequence[Any]) -> bool:
    prices = one[1:5]
    return len(prices) == 4 and all(isinstance(price, int | float) and 0 < price < float("inf") for price in prices)


def _is_settlement(one: Mapping[str, Any]) -> bool:
    return isinstance(one.get("timestamp"), int) and isinstance(one.get("fundingRate"), int | float)


def _tier(one: Mapping[str, Any], worth: float) -> TierRow:
    info = one.get("info") or {}
    deduction = info.get("cum", info.get("mmDeduction")) if isinstance(info, Mapping) else None
    top = one.get("maxNotional")
    return TierRow(
        notional_min=float(one.get("minNotional") or 0.0) * worth,
        maintenance_rate=float(one["maintenanceMarginRate"]),
        leverage_max=float(one["maxLeverage"]) if one.get("maxLeverage") else None,
        notional_max=None if top is None else float(top) * worth,
        maintenance_amount=None if deduction is None else float(str(deduction) or 0.0),
    )
