"""What tokens cost, from data/prices.csv."""

import csv
from pathlib import Path

from lib.errors import ModelUnavailable, shown
from lib.practice.practice_model.api import MODEL_NAME

DEFAULT_MODEL = "gpt-5.4-mini"  # the one place where a model is named; OPENAI_MODEL overrides it
PRICES = Path(__file__).parents[2] / "data" / "prices.csv"


def price_of(model: str) -> tuple[float, float]:
    """(USD per million input tokens, USD per million output tokens), from data/prices.csv.

    The practice model costs nothing; it is given the price of the default model, so that lessons can count.
    Errors: ModelUnavailable for a model without a price.
    """
    name = DEFAULT_MODEL if model == MODEL_NAME else model
    with PRICES.open(encoding="utf-8", newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    # A dated name, such as the API answers with, costs what the name without the date costs.
    row = rows.get(name) or next(
        (rows[known] for known in sorted(rows, key=len) if name.startswith(f"{known}-20")), None
    )
    if row is None:
        raise ModelUnavailable(f"there is no price for {shown(model)}. Add a line to data/prices.csv, with its source.")
    return float(row["input_usd_per_million"]), float(row["output_usd_per_million"])


def cost_usd(model: str, input_tokens: int, output_tokens: int) -> float:
    """What so many tokens cost.

    >>> round(cost_usd("practice-model", 1_000_000, 0), 2)
    0.75
    """
    per_input, per_output = price_of(model)
    return (input_tokens * per_input + output_tokens * per_output) / 1_000_000
