r"""Shows the characters of a foreign text that a reader would not see: as `\x1b` or `\u202e` in their place.

Names, command texts and errors come from other machines. Control characters would act on the terminal that prints them,
and invisible and bidirectional ones (Unicode's categories Cc, Cf, Zl, Zp and Cs, and what is ignorable by default)
would show another text than the one that is there. `dashboard/src/lib/visible.ts` does the same on the page.
"""

from __future__ import annotations

import re

_EMOJI = "\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff"
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Within an emoji, the joiner and the selector of its picture hide nothing.
_PATTERN = re.compile(
    f"(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])|(?<=[{_EMOJI}0-9#*])[\ufe0e\ufe0f]|(?P<hidden>[{_HIDDEN}])"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str, keep: str = "") -> str:
    """The text with every hidden character escaped, except those in `keep`."""

    def shown(found: re.Match[str]) -> str:
        character = found["hidden"]
        if character is None or character in keep:
            return found[0]
        return _NAMED.get(character) or _escape(ord(character))

    return _PATTERN.sub(shown, text)


def visible_lines(text: str) -> str:
    """Like `visible`, for a text of several lines: line ends and tabs stay, and CR LF becomes LF."""
    return visible(text.replace("\r\n", "\n"), keep="\n\t")


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
