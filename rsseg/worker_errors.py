"""Errors of worker processes, as one line."""

from __future__ import annotations

import re


def message_of(error: BaseException) -> str:
    r"""Return an error's message; that of a worker process without its traceback.

    Example:
        >>> text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback"
        >>> message_of(ValueError(text + " ...\nValueError: a.png: no image\n"))
        'a.png: no image'
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    last = list(re.finditer(r"^[\w.]*(?:Error|Exception): ", text, re.MULTILINE))
    return text[last[-1].end() :].strip() if last else text
