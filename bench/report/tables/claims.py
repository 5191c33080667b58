"""The claims' answers as texts."""

import math

import pandas as pd

CLAIM_HEADS = ("claim", "measure", "number", "value", "seeds", "verdict")


def claim_blocks(answers: pd.DataFrame) -> list[list[list[str]]]:
    """A block a claim: a row a measure, with the columns `CLAIM_HEADS`; the first row has the claim's text."""
    blocks = []
    for (claim, statement), group in answers.groupby(["claim", "statement"], sort=False):
        heads = [f"{claim}. {statement}", *[""] * (len(group) - 1)]
        blocks.append([[head, *_answer(row)] for head, (_, row) in zip(heads, group.iterrows(), strict=True)])
    return blocks


def _answer(row: pd.Series) -> list[str]:
    value = interval(*(f"{row[key]:+.3g}" for key in ("value", "low", "high")))
    return [row["measure"], row["quantity"], value, str(row["n"]), row["verdict"]]


def interval(mean: str, low: str, high: str) -> str:
    """Numbers as "mean [low, high]", without what there is none of."""
    if math.isnan(float(mean)):
        return ""
    return mean if math.isnan(float(low)) else f"{mean} [{low}, {high}]"
