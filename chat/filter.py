"""What a room's filter finds in a text: words, patterns and links.

Owns how words are told apart and which patterns are let in. Knows no room and no person.
Invariant: the time it takes grows with the text and with the patterns, never faster: regular
expressions are RE2's, and those of one filter are bounded together.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import re2
from confusable_homoglyphs.confusables import confusables_data

from chat.identity import skeleton
from chat.protocol import Pattern, ProtocolError

MAX_STEPS = 2000  # of the programs of one filter's patterns: 0.15 s at the very worst for 4,000 characters
_MAX_MEM = 1 << 20  # bytes that those programs may use; MAX_STEPS always fit
_LONG_RUN = 8  # combining marks; normalising takes the square of a run, 20 ms for 4,000

# Code points that are not drawn: controls but white space, format characters and other ignorable ones.
_UNSEEN = (
    *((0x00, 0x09), (0x0E, 0x20), (0x7F, 0x85), (0x86, 0xA0), (0xAD, 0xAE), (0x34F, 0x350), (0x61C, 0x61D)),
    *((0x115F, 0x1161), (0x17B4, 0x17B6), (0x180B, 0x1810), (0x200B, 0x2010), (0x202A, 0x202F), (0x2060, 0x2070)),
    *((0x3164, 0x3165), (0xFE00, 0xFE10), (0xFEFF, 0xFF00), (0xFFA0, 0xFFA1), (0xFFF9, 0xFFFC)),
    *((0x1BCA0, 0x1BCA4), (0x1D173, 0x1D17B), (0xE0000, 0xE1000)),
)
# Marks of no script of its own that no letter took in: strokes through letters, towers of accents.
_LOOSE_MARKS = ((0x300, 0x370), (0x488, 0x48A), (0x1AB0, 0x1B00), (0x1DC0, 0x1E00), (0x20D0, 0x2100), (0xFE20, 0xFE30))
# Scripts that put no space between words, and Hangul, which puts endings to them.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class TextFilter:
    """The patterns of a room, compiled when they are first needed."""

    patterns: list[Pattern]

    def found(self, text: str) -> Pattern | None:
        """The pattern that a text is refused or held for; one that refuses comes first."""
        if not self.patterns:
            return None
        held = None
        for pattern in self._all_found(text):
            if pattern.action == "refuse":
                return pattern
            held = held or pattern
        return held

    def _all_found(self, text: str) -> Iterator[Pattern]:
        if self._words or self._parts:
            yield from self._words_found(" ".join(folded(text).split()))
        if self._regexes:
            yield from (self._regexes[place] for place in self._program.Match(text) or ())

    def _words_found(self, text: str) -> Iterator[Pattern]:
        said = set(_WORD.findall(text)) if self._words else ()
        yield from (pattern for word, pattern in self._words.items() if word in said)
        for part, pattern in self._parts.items():
            if part in text and (_UNSPACED.search(part) or _is_whole(part, text)):
                yield pattern

    @cached_property
    def _words(self) -> dict[str, Pattern]:
        """What is looked up word by word, however many there are."""
        return {key: pattern for key, pattern in self._keys if _is_word(key) and not _UNSPACED.search(key)}

    @cached_property
    def _parts(self) -> dict[str, Pattern]:
        """What is looked for in the whole text: several words, signs, words of scripts without spaces."""
        return {key: pattern for key, pattern in self._keys if key not in self._words}

    @property
    def _keys(self) -> list[tuple[str, Pattern]]:
        # Of two that are alike the one that refuses comes last, and so it counts.
        words = sorted((pattern for pattern in self.patterns if not pattern.is_regex), key=lambda word: word.action)
        return [(_key(word), word) for word in words]

    @cached_property
    def _regexes(self) -> list[Pattern]:
        return [pattern for pattern in self.patterns if pattern.is_regex]

    @cached_property
    def _program(self) -> Any:
        """All regular expressions as one: a text is gone through once."""
        program = re2.Set.SearchSet(_options())
        for pattern in self._regexes:
            program.Add(pattern.pattern)
        program.Compile()
        return program


def check_patterns(patterns: list[Pattern]) -> None:
    """Raise ProtocolError `bad_frame` for patterns that cannot be used, alone or together."""
    steps = 0
    for pattern in patterns:
        steps += check_pattern(pattern)
        if steps > MAX_STEPS:
            raise ProtocolError("bad_frame", "`patterns`: together they are too large: use smaller repetitions.")


def check_pattern(pattern: Pattern) -> int:
    """The steps of a pattern's program; raises ProtocolError `bad_frame` if it cannot be used, in RE2's own words."""
    if pattern.is_regex:
        return _steps(pattern.pattern)
    if not _key(pattern):
        raise _unusable(pattern.pattern, "there is nothing to see in it")
    return 0


def _steps(regex: str) -> int:
    # RE2 knows it, but a byte is no part of a text.
    if re.search(r"(?<!\\)(?:\\\\)*\\C", regex):
        raise _unusable(regex, "\\C is not supported")
    try:
        program = re2.compile(regex, _options())
    except re2.error as error:
        (words,) = error.args
        raise _unusable(regex, words.decode() if isinstance(words, bytes) else words) from None
    if program.programsize > MAX_STEPS:
        raise _unusable(regex, "it is too large: use smaller repetitions")
    if program.search(""):
        raise _unusable(regex, "it is found in every text")
    return int(program.programsize)


def _unusable(pattern: str, why: str) -> ProtocolError:
    return ProtocolError("bad_frame", f"`patterns`: {pattern} cannot be used: {why}.")


def _options() -> Any:
    options = re2.Options()
    options.max_mem = _MAX_MEM
    options.never_capture = True
    options.log_errors = False
    return options


# Words


def folded(text: str) -> str:
    """A text as its words are compared: without case, what is not seen, and letters that look like ASCII's."""
    if not text.isascii():
        if _LONG_RUN_FOUND.search(text):
            text = "".join(char for char in text if not unicodedata.combining(char))
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().translate(_FOLDINGS)


def _key(pattern: Pattern) -> str:
    return " ".join(folded(pattern.pattern).split())


def _is_word(text: str) -> bool:
    return bool(_WORD.fullmatch(text))


def _is_whole(part: str, text: str) -> bool:
    """Whether `part` stands in `text` somewhere without a letter before or after it that would belong to it."""
    begins, ends = _is_word(part[0]), _is_word(part[-1])
    at = text.find(part)
    while at >= 0:
        end = at + len(part)
        if not ((begins and _is_word(text[at - 1 : at])) or (ends and _is_word(text[end : end + 1]))):
            return True
        at = text.find(part, at + 1)
    return False


def _foldings() -> dict[int, str | None]:
    """What becomes of a code point: None if it is not seen.

    ASCII stays as it is: `rn` looks like `m`, but folding it would take `burn` for another word.
    """
    foldings: dict[int, str | None] = {ord("_"): " "}  # Markdown's sign around a word
    for source, targets in confusables_data.items():
        is_letter = len(source) == 1 and source > "\x7f" and source == source.casefold()
        if is_letter and any(_is_plain_letter(target["c"]) for target in targets):
            prototype = skeleton(source)
            if _is_plain_letter(prototype):
                foldings[ord(source)] = prototype.lower()
    for begin, end in (*_UNSEEN, *_LOOSE_MARKS):
        foldings.update(dict.fromkeys(range(begin, end)))
    return foldings


def _is_plain_letter(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text.isalpha()


def _word_pattern() -> re.Pattern[str]:
    # In Indic scripts combining marks are parts of words. Beyond U+FFFF a class of them would be ten times as slow;
    # what is left out here are ideographs, Hangul syllables and surrogates.
    points = chain(range(0x300, 0x3100), range(0xA600, 0xAC00), range(0xF900, 0x10000))
    marks = "".join(chr(point) for point in points if unicodedata.category(chr(point))[0] == "M")
    return re.compile(rf"[\w{marks}]+")


# Made as the module is loaded, in 20 ms: the first message that meets a filter does not wait for them.
_FOLDINGS = _foldings()
_WORD = _word_pattern()
_LONG_RUN_FOUND = re2.compile(rf"\pM{{{_LONG_RUN + 1}}}")


# Links

# Ends of names that are no words, so that a full stop without a space after it makes no link.
_ENDS = "com|net|org|info|biz|edu|gov|xyz|online|shop|site|club|dev|app|ru|cn|de|uk|fr|jp|su|ua|pl|br|tk|ml|cf|gq|рф"
_SHORT_ENDS = "me|gg|ly|gl|gd|to|co|io|be|cc|tv|ai|la|li|sh|st|do|in|is|it|us|eu|ws|im|so|tt|pw|fm|vc"


def _link_pattern() -> Any:
    name = r"(?:^|\s)[^\s@]*[^\s/.@:]\."  # no address of a mailbox
    ends_there = r"(?:[^a-z0-9.@-]|\.?$|\.\s)"
    forms = (
        r"[a-z]://\S",
        r"\bwww\.[^\s.]",
        rf"{name}(?:{_ENDS}){ends_there}",
        rf"{name}(?:{_ENDS}|{_SHORT_ENDS})/\S",
    )
    return re2.compile(f"(?i){'|'.join(forms)}", _options())


_LINK = _link_pattern()


def has_link(text: str) -> bool:
    """Whether a text has a web address in it, with `https://` or without."""
    return _LINK.search(text) is not None
