"""The error of a mistake that a person made."""

_LONGEST_MESSAGE = 8000


class ConfigError(Exception):
    """A mistake in a grid, an option or the data it names; the message is for the person who made it.

    What it quotes may be anything: characters that are not printable are shown as escapes, and a very long message is
    cut in its middle.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
        if len(shown) > _LONGEST_MESSAGE:
            half = _LONGEST_MESSAGE // 2
            shown = f"{shown[:half]} [... {len(shown) - 2 * half} more letters ...] {shown[-half:]}"
        super().__init__(shown)
