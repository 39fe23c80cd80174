"""The error of a user: bad input, told in one line."""

_MOST_LETTERS = 1000


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what is wrong, where, and the remedy.

    A step that ends with it prints that line alone and exits with status 2. Whatever a message
    quotes, a name with line breaks and control characters or without end, it stays a line of plain
    text.
    """

    def __init__(self, message: str) -> None:
        if len(message) > _MOST_LETTERS:
            half = _MOST_LETTERS // 2
            message = f"{message[:half]} ... {message[-half:]}"
        super().__init__("".join(letter if letter.isprintable() else " " for letter in message))


def in_one_line(error: BaseException) -> str:
    """What an error says, with its type, in one line of moderate length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
