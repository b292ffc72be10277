"""What ends the program with one line."""

from __future__ import annotations

import re


class Failure(Exception):  # noqa: N818 - nothing is wrong with the program
    """It could not run: the sentence that says why is shown, and the exit status is 2."""


def reason(error: BaseException) -> str:
    """What an error says, on one line, without what an operating system or a library adds to it."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None and error.filename is not None:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def by_option(sentence: str) -> str:
    """What a library says of its argument, said of the option: ``--max-length 0`` for ``max_length=0``."""
    sentence = re.sub(r"^image_tokens=.*?\): ", "--image-token: ", sentence)
    sentence = re.sub(r"^id=", "image_token=", sentence)
    return re.sub(r"^([a-z_]+)=(.*?):", lambda found: f"--{found[1].replace('_', '-')} {found[2]}:", sentence)
