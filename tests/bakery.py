"""Example files of a made-up bakery, as a new team would have them: two kinds of text files, and a Parquet file."""

import csv
import gzip
import json
import random
from datetime import date, timedelta
from pathlib import Path

import polars as pl

FIRST = date(2026, 8, 3)
SHOPS = [f"S{n:03d}" for n in range(1, 13)]
ITEMS = ["bread", "cake", "milk", "eggs", "jam"]


def write_examples(folder: Path, days: int = 80) -> None:
    """Write what the bakery plans (each day), what it sold (not on Sundays), and its shops."""
    rng = random.Random(7)
    regions = {shop: rng.choice(["north", "south"]) for shop in SHOPS}
    for day in (FIRST + timedelta(days=n) for n in range(days)):
        planned = [(shop, item, rng.randint(5, 60)) for shop in SHOPS for item in ITEMS]
        lines = ["Filiale;Artikel;Liefertag;Menge;Preis;Kontakt;Aktion"]
        for shop, item, amount in planned:
            price = f"{amount / 7:.2f}".replace(".", ",")
            promoted = rng.choice(["ja", "nein"])
            lines.append(f"{shop};{item};{day:%d.%m.%Y};{amount};{price};{shop.lower()}@bäcker.example;{promoted}")
        write(folder / f"plan/{day:%Y/%m/%d}.csv.gz", gzip.compress("\n".join(lines).encode("latin-1") + b"\n"))
        if day.weekday() == 6:
            continue
        sold = [
            json.dumps({
                "Filiale": shop,
                "Artikel": item,
                "Liefertag": f"{day:%d.%m.%Y}",
                "sold": round(0.8 * amount + (5 if regions[shop] == "north" else 0) + rng.gauss(0, 6), 1),
                "customer_id": f"C{rng.randint(10000, 99999)}",
                "closed_at": f"{day}T18:0{rng.randint(0, 9)}:00+02:00",
            })
            for shop, item, amount in planned
        ]
        write(folder / f"sales/sales_{day:%Y%m%d}.jsonl", "\n".join(sold).encode() + b"\n")
    shops = {"Filiale": SHOPS, "region": [*regions.values()], "area_m2": [rng.random() * 100 for _ in SHOPS]}
    pl.DataFrame(shops).write_parquet(folder / "stores.parquet")


def read_examples(folder: Path) -> dict[str, pl.DataFrame]:
    """Return the written examples as a database would have them: days as dates, numbers as numbers."""
    day = pl.col("Liefertag").str.to_date("%d.%m.%Y")
    lines = [gzip.decompress(path.read_bytes()).decode("latin-1") for path in sorted(folder.glob("plan/*/*/*"))]
    plan = pl.DataFrame([row for text in lines for row in csv.DictReader(text.splitlines(), delimiter=";")])
    sales = pl.concat([pl.read_ndjson(path) for path in sorted(folder.glob("sales/*"))])
    moment = pl.col("closed_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%z", time_zone="UTC")
    return {
        "plan": plan.with_columns(
            day, pl.col("Menge").cast(pl.Int64), pl.col("Preis").str.replace(",", ".").cast(pl.Float64)
        ),
        "sales": sales.with_columns(moment).drop("Liefertag"),
        "stores": pl.read_parquet(folder / "stores.parquet"),
    }


def write(path: Path, content: bytes) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
