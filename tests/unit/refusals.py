"""The form of every refusal: one line that names what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sparselimit.errors import InputError


@contextmanager
def refused(*words: str, error: type[InputError] = InputError) -> Iterator[None]:
    """The body must raise `error`, told in one line that contains all the words."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message
