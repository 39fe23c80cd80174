"""The error of a user: bad input, told in one line."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what is wrong, where, and the remedy.

    A step that ends with it prints that line alone and exits with status 2.
    """
