"""`static/silence.js` without a page: the seqs at which nothing is to be seen, as ranges."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from tests.modules import run

SEQ = st.integers(1, 40)


@given(st.lists(st.tuples(SEQ, st.booleans()), unique_by=lambda each: each[0]))
@settings(max_examples=60, deadline=None)
def test_ranges_are_what_a_set_would_be(modules: Page, added: list[tuple[int, bool]]) -> None:
    """Whatever is added, in any order: each seq is in one range, neighbours are one, and the messages are counted."""
    found = run(
        modules,
        """
        const { Silence } = await load("silence");
        const silence = new Silence();
        for (const [seq, isMessage] of arg) silence.add(seq, isMessage);
        const all = Array.from({ length: 42 }, (_, seq) => seq);
        return {
            has: all.filter((seq) => silence.has(seq)), ranges: silence.within(1, 41),
            past: all.map((seq) => silence.past(seq)), after: all.map((seq) => silence.countFrom(seq)),
            ends: [silence.oldest, silence.newest],
        };
        """,
        added,
    )
    seqs = {seq for seq, _ in added}
    assert set(found["has"]) == seqs
    assert found["past"] == [next(n for n in range(seq, 99) if n not in seqs) for seq in range(42)]
    assert found["after"] == [sum(each >= seq for each in seqs) for seq in range(42)]
    assert found["ends"] == [min(seqs, default=float("inf")), max(seqs, default=0)]
    ranges = found["ranges"]
    assert all(later["first"] > earlier["last"] + 1 for earlier, later in pairwise(ranges))
    for piece in ranges:
        within = range(piece["first"], piece["last"] + 1)
        assert set(within) <= seqs
        assert piece["gone"] == sum(is_message for seq, is_message in added if seq in within)


def test_ten_thousand_at_once_take_one_pass(modules: Page) -> None:
    """Every other message of a long room: quick to add, and where the others go, too, one range is left."""
    quick, ranges, joined = run(
        modules,
        """
        const { Silence } = await load("silence");
        const silence = new Silence();
        const odd = Array.from({ length: 10000 }, (_, i) => 2 * i + 1);
        const began = performance.now();
        silence.addGone(odd);
        const quick = performance.now() - began;
        const ranges = silence.within(1, Infinity).length;
        silence.addGone(odd.map((seq) => seq + 1));
        return [quick, ranges, silence.within(1, Infinity)];
        """,
    )
    assert ranges == 10_000
    assert joined == [{"first": 1, "last": 20_000, "gone": 20_000}]
    assert quick < 500


def test_ranges_are_cut_where_one_looks(modules: Page) -> None:
    """Only what lies between two seqs is told, and what is not kept is forgotten."""
    assert run(
        modules,
        """
        const { Silence } = await load("silence");
        const silence = new Silence();
        silence.addGone([2, 3, 4, 5, 9]);
        const cut = silence.within(3, 4);
        silence.countGone(9);
        silence.keep(({ first }) => first > 5);
        return [cut, silence.within(1, 99), silence.within(6, 8)];
        """,
    ) == [[{"first": 3, "last": 4, "gone": 4}], [{"first": 9, "last": 9, "gone": 2}], []]
