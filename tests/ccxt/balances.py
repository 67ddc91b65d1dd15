"""Reads the balances of an account, and prices, through ccxt, a client of the exchange that no one here wrote.

    balances.py URL ACCESS_KEY SECRET_KEY

asks the exchange at URL, with futures under /fapi and /dapi, and prints one JSON object: by wallet either
{"currency": [free, used, total]}, amounts as the texts that ccxt makes of them, or the name of ccxt's error; under
"prices" {"currency": price} of the markets against USDT; under "positions" a list of [wallet, symbol, side, margin mode,
contracts, entry price, mark price, liquidation price, leverage], or the name of ccxt's error.
"""

import json
import sys
import time

import ccxt

WALLETS = {
    "spot": {"type": "spot"},
    "futures_usdt": {"type": "swap", "subType": "linear"},
    "futures_coin": {"type": "swap", "subType": "inverse"},
}


def balances(exchange, params):
    try:
        answer = exchange.fetch_balance(params)
    except ccxt.BaseError as error:
        return type(error).__name__
    currencies = [code for code, amounts in answer.items() if code in answer["total"]]
    return {code: [answer[code][part] for part in ("free", "used", "total")] for code in currencies}


def prices(exchange):
    tickers = exchange.fetch_tickers(params={"type": "spot"})
    spot = {symbol.partition("/"): ticker["last"] for symbol, ticker in tickers.items() if ":" not in symbol}
    return {base: last for (base, _, quote), last in spot.items() if quote == "USDT"}


def positions(exchange):
    rows = []
    for wallet, params in WALLETS.items():
        if params["type"] != "swap":
            continue
        # Two calls, and the exchange locks an account after a fourth asset call within a second.
        time.sleep(1.1)
        try:
            found = exchange.fetch_positions(params={"subType": params["subType"]})
        except ccxt.BaseError as error:
            return type(error).__name__
        fields = ["marginMode", "contracts", "entryPrice", "markPrice", "liquidationPrice", "leverage"]
        rows += [[wallet, row["info"]["symbol"], row["side"]] + [row[field] for field in fields] for row in found]
    return rows


def main():
    url, access_key, secret_key = sys.argv[1:]
    exchange = ccxt.xt({"apiKey": access_key, "secret": secret_key})
    exchange.number = str  # floats would hide lost digits
    exchange.urls["api"] = {"spot": url, "linear": url + "/fapi", "inverse": url + "/dapi", "user": url}
    read = {wallet: balances(exchange, params) for wallet, params in WALLETS.items()}
    print(json.dumps(read | {"prices": prices(exchange), "positions": positions(exchange)}))


main()
