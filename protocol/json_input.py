"""Decodes JSON that comes from outside: every fault of the input is one kind of error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


class InputError(ValueError):
    """The input is not JSON; the text says why."""


class InvalidInput(InputError):
    """The input is JSON, but not of the wanted type; the text says where and why."""


def decode(decoder: msgspec.json.Decoder[T], data: str | bytes) -> T:
    """Decode JSON. Raises InvalidInput or InputError, also for text that is not UTF-8 and for values nested too
    deep."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(str(error)) from error
    except RecursionError as error:
        raise InputError("it is nested too deep") from error
