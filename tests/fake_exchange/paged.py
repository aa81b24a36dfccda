# SPDX-License-Identifier: GPL-3.0-or-later
"""The APIs of two exchanges whose funding history takes no times: Bitget pages it by number, Pacifica by cursor, the newest rows first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_exchange.truth import HOUR

if TYPE_CHECKING:
    from fake_exchange.server import FakeExchange, Fault

FAR = 4_133_404_800_000


def _history(fake: FakeExchange, symbol: str) -> list[tuple[int, float]]:
    """Return every settlement of a market, the newest first."""
    truth = fake.truths[symbol]
    return truth.funding(0, truth.now + 1)[::-1]


def bitget_funding(fake: FakeExchange, query: dict[str, str], fault: Fault | None) -> dict[str, Any]:
    """`pageSize` and `pageNo` from 1 on."""
    size = min(int(query.get("pageSize", 20)), 100, fake.cap or 100)
    number = int(query.get("pageNo", 1))
    rows = _history(fake, query["symbol"].removesuffix("USDT"))[(number - 1) * size : number * size]
    data = [{"symbol": query["symbol"], "fundingTime": str(t), "fundingRate": f"{rate:.8f}"} for t, rate in rows]
    return {"code": "00000", "msg": "success", "requestTime": 0, "data": fake.spoiled(data, fault)}


def bitget_candles(fake: FakeExchange, query: dict[str, str], fault: Fault | None) -> dict[str, Any]:
    """Candles of one hour from `startTime` to `endTime`."""
    start, end = int(query.get("startTime", 0)), int(query.get("endTime", FAR)) + 1
    rows = fake.truths[query["symbol"].removesuffix("USDT")].candles("candles", start, end, HOUR)
    limit = min(int(query.get("limit", 100)), 200, fake.cap or 200)
    data = [[str(t), *map(str, prices), str(volume), "0"] for t, *prices, volume in rows][-limit:]
    return {"code": "00000", "msg": "success", "requestTime": 0, "data": fake.spoiled(data, fault)}


def bitget_contracts(fake: FakeExchange, query: dict[str, str]) -> dict[str, Any]:
    """Perpetuals in USDT."""
    data = [
        {
            "symbol": f"{base}USDT", "baseCoin": base, "quoteCoin": "USDT", "makerFeeRate": "0.0002", "takerFeeRate": "0.0006",
            "supportMarginCoins": ["USDT"], "minTradeNum": "0.01", "priceEndStep": "1", "volumePlace": "2", "pricePlace": "1",
            "sizeMultiplier": "0.01", "symbolType": "perpetual", "symbolStatus": "normal", "offTime": "-1", "maxLever": "125",
        }
        for base in (fake.truths if query.get("productType") == "USDT-FUTURES" else ())
    ]  # fmt: skip
    return {"code": "00000", "msg": "success", "requestTime": 0, "data": data}


def pacifica_funding(fake: FakeExchange, query: dict[str, str], fault: Fault | None) -> dict[str, Any]:
    """`limit` rows from a `cursor` on, which is opaque to clients."""
    size = min(int(query.get("limit", 100)), 200, fake.cap or 200)
    first = int(query.get("cursor", "at0").removeprefix("at"))
    history = _history(fake, query["symbol"])
    rows = history[first : first + size]
    data = [{"created_at": t, "funding_rate": f"{rate:.8f}", "oracle_price": "1"} for t, rate in rows]
    more = first + size < len(history)
    return {
        "success": True, "data": fake.spoiled(data, fault), "has_more": more, "next_cursor": f"at{first + size}" if more else None,
    }  # fmt: skip


def pacifica_markets(fake: FakeExchange, _query: dict[str, str]) -> dict[str, Any]:
    """Perpetuals in USDC."""
    data = [
        {
            "symbol": base, "tick_size": "1", "min_tick": "0", "max_tick": "1000000", "lot_size": "0.001", "max_leverage": 50,
            "isolated_only": False, "min_order_size": "10", "max_order_size": "5000000", "instrument_type": "perpetual",
        }
        for base in fake.truths
    ]  # fmt: skip
    return {"success": True, "data": data}


def _empty(_fake: FakeExchange, _query: dict[str, str]) -> dict[str, Any]:
    return {"code": "00000", "msg": "success", "requestTime": 0, "data": []}


ROWS = {
    "/api/v2/mix/market/history-fund-rate": bitget_funding,
    "/api/v2/mix/market/candles": bitget_candles,
    "/api/v2/mix/market/history-candles": bitget_candles,
    "/api/v1/funding_rate/history": pacifica_funding,
}
PLAIN = {
    "/api/v2/spot/public/coins": _empty,
    "/api/v2/spot/public/symbols": _empty,
    "/api/v2/margin/currencies": _empty,
    "/api/v2/mix/market/contracts": bitget_contracts,
    "/api/v2/public/time": lambda fake, _query: {
        "code": "00000", "msg": "success", "requestTime": 0,
        "data": {"serverTime": str(next(iter(fake.truths.values())).now + fake.skew)},
    },
    "/api/v1/info": pacifica_markets,
}  # fmt: skip
