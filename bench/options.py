"""Kinds of values that several command lines take. A leaf."""

import argparse
import threading
from collections.abc import Callable


def whole(least: int) -> Callable[[str], int]:
    """For argparse, a whole number from `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    number.__name__ = "whole number"  # as argparse calls it in its message
    return number


def seconds(text: str) -> float:
    """For argparse, a time above 0."""
    value = float(text)
    if not 0 < value < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return value
