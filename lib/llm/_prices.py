"""What tokens cost, from data/prices.csv."""

import csv
import re
from pathlib import Path

from lib.errors import ModelUnavailable, shown

DEFAULT_MODEL = "gpt-5.4-mini"  # the one place where a model is named; OPENAI_MODEL overrides it
PRACTICE_MODEL = "practice-model"  # as the practice model calls itself in its answers
PRICES = Path(__file__).parents[2] / "data" / "prices.csv"


def cost_usd(model: str, input_tokens: int, output_tokens: int) -> float:
    """What so many tokens cost, in USD, from data/prices.csv.

    The practice model costs nothing; it is given the price of the default model, so that lessons can count.
    Errors: ModelUnavailable for a model without a price.

    >>> round(cost_usd("practice-model", 1_000_000, 0), 2)
    0.75
    """
    name = DEFAULT_MODEL if model == PRACTICE_MODEL else model
    # A dated name, such as the API answers with, costs what the name without the date costs.
    names = (name, re.sub(r"-20\d\d-\d\d-\d\d$", "", name))
    with PRICES.open(encoding="utf-8", newline="") as file:
        row = next((row for row in csv.DictReader(file) if row["model"] in names), None)
    if row is None:
        raise ModelUnavailable(f"there is no price for {shown(model)}. Add a line to data/prices.csv, with its source.")
    per_million = float(row["input_usd_per_million"]), float(row["output_usd_per_million"])
    return (input_tokens * per_million[0] + output_tokens * per_million[1]) / 1_000_000
