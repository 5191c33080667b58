"""What a law is, and how laws are judged."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

Outcome = Literal["holds", "broken", "not claimed", "not tried"]
BETA = 0.5  # of partitions that take one, where a law is not about it
Law = Callable[[Any], None]  # raises Broken or NotClaimed; the first line of its docstring states the law


class Broken(Exception):
    """A counterexample, in words and numbers."""


class NotClaimed(Exception):
    """Why the law is not one for this strategy or partition."""


def no_difference(difference: str | None, where: str) -> None:
    """Raises Broken with the difference and where it is, unless it is None."""
    if difference is not None:
        raise Broken(f"{where}: {difference}")


@dataclass(frozen=True)
class Verdict:
    """What became of one law.

    Attributes:
        law: its name, the function's in words.  states: what it says.
        reason: the counterexample, or why it is not claimed or was not tried; "" where it holds.
    """

    law: str
    states: str
    outcome: Outcome
    reason: str = ""


def claim(name: str, off: Any = False) -> Callable[[Law], Law]:
    """Decorator of a law that holds for strategies whose claim of this name is on; `off` is what it is otherwise."""

    def mark(law: Law) -> Law:
        @wraps(law)
        def claimed(subject: Any) -> None:
            if not getattr(subject.strategy, name):
                raise NotClaimed(f"{name} = {off!r}")
            try:
                law(subject)
            except Broken as found:
                raise Broken(f"{found}; if it is meant to be so, the class says {name} = {off!r}") from found

        return claimed

    return mark


def judge(laws: Sequence[Law], subject: Any) -> Iterator[Verdict]:
    """A verdict on each law. Where the first is broken the others are not tried: they would all say the same."""
    standing = True
    for law in laws:
        name, states = law.__name__.replace("_", " "), str(law.__doc__).splitlines()[0]
        if not standing:
            yield Verdict(name, states, "not tried", f"{laws[0].__name__.replace('_', ' ')!r} is broken")
            continue
        outcome, reason = _judged(law, subject)
        standing = not (law is laws[0] and outcome == "broken")
        yield Verdict(name, states, outcome, reason)


def _judged(law: Law, subject: Any) -> tuple[Outcome, str]:
    try:
        law(subject)
    except NotClaimed as reason:
        return "not claimed", str(reason)
    except Broken as found:
        return "broken", str(found)
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises while it is being tried is the finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return "broken", f"it raises {message} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})"
    return "holds", ""


def summary(verdicts: Sequence[Verdict]) -> str:
    """E.g. "14 laws hold, 2 are broken, 1 is not claimed"."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts['holds']} {'law holds' if counts['holds'] == 1 else 'laws hold'}"]
    others: tuple[Outcome, ...] = ("broken", "not claimed", "not tried")
    for outcome in others:
        if counts[outcome] or outcome == "broken":
            parts.append(f"{counts[outcome]} {'is' if counts[outcome] == 1 else 'are'} {outcome}")
    return ", ".join(parts)
