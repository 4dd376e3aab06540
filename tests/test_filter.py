"""What a room's filter finds: words however they are spelled, patterns in linear time, and links."""

import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chat.filter import MAX_STEPS, TextFilter, check_pattern, check_patterns, folded, has_link
from chat.protocol import MAX_PATTERN, MAX_PATTERNS, MAX_TEXT, Pattern, ProtocolError
from tests.support import ROOT

DEADLINE_S = 20  # for what takes milliseconds if it is linear, and years if it is not


def is_found(word: str, text: str) -> bool:
    return TextFilter([Pattern(word)]).found(text) is not None


def refusal(*patterns: Pattern) -> str:
    """The sentence by which patterns are refused."""
    with pytest.raises(ProtocolError) as refused:
        check_patterns(list(patterns))
    assert refused.value.code == "bad_frame"
    assert refused.value.sentence.endswith(".") and "\n" not in refused.value.sentence
    return refused.value.sentence


# Words


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("bad", "bad"),
        ("bad", "That is bad."),
        ("bad", "BAD!"),
        ("BAD", "bad"),
        ("bad", "not\nbad\nat all"),
        ("bad", "«bad»"),
        ("bad", "so (bad)"),
        ("bad", "_bad_ and *worse*"),
        ("bad", "bad_apple"),
        ("foo_bar", "a foo_bar here"),
        ("don't", "I don't know"),
        ("straße", "STRASSE"),
        ("ÉCOLE", "e\u0301cole"),
        ("buy now", "Please BUY  now!"),
        ("buy now", "buy\nnow"),
        ("c++", "I like C++ more"),
        (":-)", "well :-) yes"),
        ("\N{AUBERGINE}", "look\N{AUBERGINE}here"),
        ("\N{HEAVY BLACK HEART}\ufe0f", "\N{HEAVY BLACK HEART}"),
        ("дурак", "Ты ДУРАК!"),
        ("हिन्दी", "यह हिन्दी है"),
    ],
)
def test_a_word_is_found_where_it_stands_whole(word: str, text: str) -> None:
    """Whatever its case and whatever stands beside it, as long as that is no letter."""
    assert is_found(word, text)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("ass", "a class of its own"),
        ("bad", "badge, forbad, bad2"),
        ("bad", "b a d"),
        ("buy now", "buy nowhere"),
        ("buy now", "a guy buys now"),
        ("c++", "c"),
        ("c++", "abc++"),
        ("foo_bar", "foobar"),
        ("bum", "burn"),
        ("modem", "modern"),
        ("hello", "he11o"),
        ("schon", "schön"),
        ("बद", "बदी"),
        ("вот", "bot"),
    ],
)
def test_a_part_of_a_word_or_another_word_is_not_found(word: str, text: str) -> None:
    """`ass` is not found in `class`; what only looks alike within ASCII stays another word."""
    assert not is_found(word, text)


@pytest.mark.parametrize(
    ("word", "text"),
    [("坏人", "他是个坏人吗"), ("バカ", "おバカさん"), ("바보", "바보야"), ("โง่", "คนโง่มาก"), ("AV女优", "看AV女优片")],
)
def test_in_a_script_without_spaces_a_word_is_found_anywhere(word: str, text: str) -> None:
    """Chinese, Japanese, Thai and Korean put no space at the end of a word."""
    assert is_found(word, text)


@pytest.mark.parametrize(
    "text",
    [
        "sc\u0430m",  # Cyrillic а
        "\u0455\u0441\u0430m",  # Cyrillic ѕса
        "s\u200bc\u200da\u2060m",
        "s\u00adcam",
        "sc\ufe0fam",
        "s\x00c\x1fam",
        "ｓｃａｍ",
        "𝐬𝐜𝐚𝐦",
        "ⓢⓒⓐⓜ",
        "s\u0338c\u0338a\u0338m\u0338",
        "sca" + "m" + "\u0488" * 2,
        "s" + "\u0321\u0338" * 40 + "cam",
        "\u202escam\u202c",
        "s\U000e0063cam",
    ],
)
def test_a_disguised_word_is_found(text: str) -> None:
    """Letters of other scripts and widths, unseen characters in the middle and strokes through it do not hide it."""
    assert is_found("scam", text)
    assert is_found(text, "scam")


def test_every_combining_mark_belongs_to_its_word() -> None:
    """A word is another with a mark on it; marks that are drawn over any letter, and so disguise it, do not count."""
    points = (chr(point) for point in range(0x300, 0x10000))
    marked = [f"ba{char}" for char in points if unicodedata.category(char)[0] == "M"]
    others = [text for text in marked if folded(text) != "ba"]
    assert len(others) > 900
    assert not [text for text in others if is_found("ba", text)]


ASCII_TEXT = st.text("abAB .,-!", max_size=30)


@settings(deadline=None, database=None)
@given(word=st.text("ab", min_size=1, max_size=3), text=ASCII_TEXT)
@example(word="ab", text="aab ab")
def test_words_are_found_as_a_plain_expression_finds_them(word: str, text: str) -> None:
    """A word in ASCII is found exactly where it has no letter or digit before and after it."""
    plain = re.search(rf"(?<![a-z0-9]){word}(?![a-z0-9])", text.lower())
    assert is_found(word, text) == (plain is not None)
    assert is_found(f"{word}!", text) == (re.search(rf"(?<![a-z0-9]){word}!", text.lower()) is not None)


@settings(deadline=None, database=None)
@given(word=st.text(min_size=1, max_size=MAX_PATTERN), text=st.text(max_size=200))
def test_any_word_that_is_let_in_is_found_in_itself(word: str, text: str) -> None:
    """Whatever Unicode it is made of; and no text makes the filter fail."""
    try:
        check_pattern(Pattern(word))
    except ProtocolError as error:
        assert "nothing to see" in error.sentence
        assert not is_found("x", word)
        return
    assert is_found(word, word)
    assert is_found(word, f"… {word} …")
    is_found(word, text)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "text", "is_in_it"),
    [
        (r"fr+ee", "it is frrrree", True),
        (r"^buy", "buy", True),
        (r"^buy", "do buy", False),
        (r"spam", "SPAM", False),
        (r"(?i)spam", "SPAM", True),
        (r"[A-Z]{10}", "WHYSHOUTING", True),
        (r"[\x{300}-\x{36f}]{4}", "h\u0336\u0335\u0334\u0333i", True),
        (r"\p{Cyrillic}", "б", True),
        (r"\p{L}\d", "é1", True),
        (r"ass", "class", True),
    ],
)
def test_a_pattern_is_looked_for_in_the_text_as_it_is_written(pattern: str, text: str, is_in_it: bool) -> None:
    """A regular expression means what RE2 says it means: case counts, nothing is folded."""
    asked = Pattern(pattern, is_regex=True)
    check_pattern(asked)
    assert TextFilter([asked]).found(text) == (asked if is_in_it else None)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(", "missing ): ("),
        (r"[", "missing ]: ["),
        (r"a**", "bad repetition operator: **"),
        (r"((a{1000}){1000})", "invalid repetition size: {1000}"),
        (r"((a{10}){100}){10}", "invalid repetition size: {10}"),
        (r"a{1001}", "invalid repetition size: {1001}"),
        (r"(a)\1", "invalid escape sequence: \\1"),
        (r"(?=a)b", "invalid perl operator: (?="),
        (r"(?<!a)b", "invalid perl operator: (?<"),
        (r"\C", "\\C is not supported"),
        (r"a\\\C", "\\C is not supported"),
        (r"(?:\pL{9}|\pN{9}){30}", "too large"),
        (r"(?:(?:x?y){30}z){33}", "too large"),
        (r"a*", "it is found in every text"),
        (r"|spam", "it is found in every text"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_in_words(pattern: str, why: str) -> None:
    """The moderator is told what RE2 has against it."""
    assert why in refusal(Pattern(pattern, is_regex=True))


def test_what_is_like_a_byte_but_none_is_let_in() -> None:
    """Behind a backslash that is itself meant, `C` is the letter."""
    check_pattern(Pattern(r"\\C", is_regex=True))
    assert TextFilter([Pattern(r"\\C", is_regex=True)]).found(r"a\C")


@pytest.mark.parametrize("word", ["\u200b", " ", "\u0301\u0302", "_", "\ufe0f"])
def test_a_word_of_which_nothing_is_seen_is_refused(word: str) -> None:
    """It would be found everywhere, or nowhere."""
    assert "nothing to see" in refusal(Pattern(word))


def test_patterns_that_are_too_large_together_are_refused() -> None:
    """Each of them alone is let in; words do not count."""
    large = Pattern(r"a[ab]{600}c", is_regex=True)
    words = [Pattern("w" * MAX_PATTERN)] * (MAX_PATTERNS - 1)
    check_patterns([large, *words])
    assert "together" in refusal(large, large, large, large)


def test_one_that_refuses_comes_before_one_that_holds() -> None:
    """Wherever it stands in the list, and whether it is a word or a regular expression."""
    hold_word, refuse_word = Pattern("one", action="hold"), Pattern("two")
    hold_regex, refuse_regex = Pattern("thr.e", True, "hold"), Pattern("fo.r", True)
    everything = [hold_word, hold_regex, refuse_word, refuse_regex]
    for patterns in (everything, everything[::-1]):
        text_filter = TextFilter(patterns)
        assert text_filter.found("one two") == refuse_word
        assert text_filter.found("one four") == refuse_regex
        assert text_filter.found("two three") == refuse_word
        assert text_filter.found("three") == hold_regex
        assert text_filter.found("one") == hold_word
        assert text_filter.found("five") is None
    assert TextFilter([Pattern("one"), hold_word]).found("one") == Pattern("one")
    assert TextFilter([hold_word, Pattern("ONE")]).found("one") == Pattern("ONE")


def test_a_filter_without_patterns_finds_nothing() -> None:
    """Most rooms have none."""
    assert TextFilter([]).found("anything") is None


# Time

KILLERS = [
    r"(a+)+$",
    r"(a|aa)+$",
    r"(a|a?)+b$",
    r"(.*a){12}$",
    r"(a*)*b",
    r"((a*)*)*b",
    r"(x+x+)+y",
    r"(.*)*x(.*)*x(.*)*x",
    r"[ab]*a[ab]{300}c",
    r"(?:a?){100}a{100}",
    r"([a-z]+)*[0-9]",
]
_IN_A_PROCESS_OF_ITS_OWN = f"""
from chat.filter import TextFilter, check_patterns
from chat.protocol import Pattern
patterns = [Pattern(line, True) for line in {KILLERS!r}]
check_patterns(patterns)
texts = ["a" * 3999 + "!", "ab" * {MAX_TEXT // 2}, "x" * {MAX_TEXT}, "ж" * {MAX_TEXT}, "a\\u0301\\u0323" * 1333]
words = ["a" * n + "!" for n in range(1, 100)]
for text in [*texts, "a" + "\\u0301\\u0323" * 500_000, "!a" * 2000]:
    for pattern in patterns:
        TextFilter([pattern]).found(text)
    TextFilter(patterns).found(text)
    TextFilter([Pattern(word) for word in words]).found(text)
print("done")
"""


def test_no_pattern_makes_a_long_text_take_long() -> None:
    """Patterns on which other engines hang for ever are let in, and are done with 4,000 characters at once."""
    command = [sys.executable, "-c", _IN_A_PROCESS_OF_ITS_OWN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


_WITH_NOTHING_LEFT_TO_BUILD = """
import re
import chat.filter, chat.identity
from chat.protocol import Pattern
text_filter = chat.filter.TextFilter([Pattern("scam"), Pattern("buy now")])
chat.filter.confusables_data = chat.identity.confusables_data = re.compile = None
print(text_filter.found("a sc\u0430m").pattern, text_filter.found("buy " + "\u0301" * 20 + "now").pattern)
print(chat.filter.has_link("go to example.com"))
"""


def test_the_first_message_does_not_wait_for_tables() -> None:
    """What letters look alike is worked out as the server starts, not as somebody speaks."""
    command = [sys.executable, "-c", _WITH_NOTHING_LEFT_TO_BUILD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.stdout, done.stderr) == ("scam buy now\nTrue\n", "")


def test_the_largest_filter_has_memory_enough_to_find_what_it_looks_for() -> None:
    """An RE2 set that runs out of memory finds nothing, and says nothing."""
    patterns = [Pattern(rf"a[ab]{{{MAX_STEPS // 2 - 20}}}c", True), Pattern(rf"b[ab]{{{MAX_STEPS // 2 - 20}}}d", True)]
    check_patterns(patterns)
    text_filter = TextFilter(patterns)
    mixed = "".join("ab"[(n * n >> 3) % 2 ^ n % 3 % 2] for n in range(MAX_TEXT - 1))
    assert text_filter.found(mixed) is None
    assert text_filter.found(mixed + "c") in patterns or text_filter.found(mixed + "d") in patterns


def test_hundred_patterns_are_each_found() -> None:
    """Each pattern of a full filter is found at the end of a full text, and no other is."""
    letters = "bcdfghjklm"
    words = [f"{a}{b}xyz" for a in letters for b in letters]
    filler = "lorem ipsum " * ((MAX_TEXT - 10) // 12)
    for patterns in ([Pattern(word) for word in words], [Pattern(rf"{word}\b", True) for word in words]):
        check_patterns(patterns)
        text_filter = TextFilter(patterns)
        assert [text_filter.found(filler + word) for word in words] == patterns
        assert text_filter.found(filler) is None


# Links


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com",
        "see http://a.b/c",
        "HTTPS://EXAMPLE.COM",
        "(http://[::1]/)",
        "ftp://files",
        "www.example.org",
        "go to example.com",
        "example.com.",
        "example.com, please",
        "(example.com)",
        "看example.com吧",
        "sub.example.co.uk",
        "example.com:8080",
        "t.me/joinchat",
        "discord.gg/abc",
        "bit.ly/x",
        "пример.рф",
        "tg://resolve?domain=x",
    ],
)
def test_a_link_is_seen(text: str) -> None:
    """With a scheme or without, as browsers and other chats make one of it."""
    assert has_link(text)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "That is it.So what",
        "e.g. this, i.e. that",
        "either/or",
        "3.14 and 1.5/2",
        "main.py and node.js",
        "write to me@example.com",
        "I came home.in the end",
        "a://",
        "http:// nothing",
        "wwwhat",
        "the end.community",
        "c:\\dir",
    ],
)
def test_what_is_no_link_is_not_taken_for_one(text: str) -> None:
    """A full stop without a space, a file or a mail address is no link."""
    assert not has_link(text)
