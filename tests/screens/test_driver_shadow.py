"""A terminal fed through the shadow shows the same cells as one that gets the whole stream."""

from __future__ import annotations

import pyte
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.screens.shadow import Shadow

WIDTH, HEIGHT = 20, 6


class Terminal:
    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.Stream(self.screen)
        self.stream.feed("\x1b[?7l")

    def feed(self, text: str) -> None:
        # What the terminal driver of the kernel does to output.
        self.stream.feed(text.replace("\n", "\r\n"))

    def cells(self) -> list[list[tuple]]:
        buffer = self.screen.buffer
        return [[tuple(buffer[y][x]) for x in range(self.screen.columns)] for y in range(self.screen.lines)]


colours = st.sampled_from(
    ["31", "92", "38;2;1;2;3", "38;2;9;8;7", "38;5;100", "48;2;1;2;3", "48;5;17", "41", "100", "39", "49"]
)
attributes = st.sampled_from(["1", "3", "4", "7", "9", "2"])
sgr = st.lists(colours | attributes, min_size=0, max_size=3).map(";".join)
simple = st.text(st.sampled_from("ab xyz─│▲⣿éд "), min_size=1, max_size=14)
awkward = st.lists(
    st.sampled_from(["a", " ", "界", "e\u0301", "👩\u200d🔬", "⚠\ufe0f", "🇩🇪", "ש", "\U000e0001", "한", "\u00ad"]),
    min_size=1,
    max_size=5,
).map(lambda parts: "x" + "".join(parts))
segment = st.tuples(sgr, simple | simple | awkward).map(
    lambda pair: f"\x1b[{pair[0]}m{pair[1]}\x1b[0m" if pair[0] else pair[1]
)
move = st.tuples(st.integers(1, HEIGHT + 1), st.integers(1, WIDTH)).map(lambda yx: f"\x1b[{yx[0]};{yx[1]}H")
run = st.tuples(move, st.lists(segment, max_size=4).map("".join)).map("".join)
update = st.lists(run, min_size=1, max_size=6).map("".join)
# Not from Textual's compositor, but right all the same: styles that add up, and what only some applications send.
# (Each starts with a move: after text of unsure width only the terminal knows where the cursor is.)
loose = st.lists(
    move
    | simple
    | sgr.map(lambda codes: f"\x1b[{codes}m")
    | st.sampled_from(
        [
            "\n",
            "\r",
            "\x1b[2;4H\x1b[K",
            "\x1b[2J",
            "\x1b[3;9H\x1b[3Dz",
            "\x1b[?25l",
            "\x07",
            "\x1b[1;22m",
            "\x1b[0;24;4m",
        ]
    ),
    max_size=10,
).map(lambda parts: "\x1b[2;2H" + "".join(parts) + "\x1b[0m")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(update | update | loose, st.booleans()), min_size=1, max_size=8))
def test_same_cells_as_the_whole_stream(updates: list[tuple[str, bool]]) -> None:
    stock, ours, shadow = Terminal(), Terminal(), Shadow(WIDTH, HEIGHT)
    for data, emit in updates:
        stock.feed(data)
        ours.feed(shadow.feed(data))
        if emit:
            ours.feed(shadow.frame())
            assert ours.cells() == stock.cells()
    ours.feed(shadow.frame())
    assert ours.cells() == stock.cells()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        update | st.tuples(st.integers(5, 30), st.integers(2, 9)),
        min_size=2,
        max_size=10,
    )
)
def test_same_cells_over_resizes(steps: list[str | tuple[int, int]]) -> None:
    stock, ours, shadow = Terminal(), Terminal(), Shadow(WIDTH, HEIGHT)
    for step in steps:
        if isinstance(step, str):
            stock.feed(step)
            ours.feed(shadow.feed(step) + shadow.frame())
        else:
            for terminal in (stock, ours):
                terminal.screen.resize(step[1], step[0])
            shadow.resize(*step)
        assert ours.cells() == stock.cells()


@settings(max_examples=100, deadline=None)
@given(update)
def test_the_same_update_again_sends_nothing(data: str) -> None:
    shadow = Shadow(WIDTH, HEIGHT)
    shadow.feed(data)
    shadow.frame()
    shadow.feed(data)
    assert shadow.frame() == ""
    assert not shadow.dirty


def test_only_changed_cells_are_sent() -> None:
    shadow = Shadow(40, 4)
    shadow.feed("\x1b[2;1H\x1b[31mloss 0.1234\x1b[0m\x1b[1;1H")
    shadow.frame()
    shadow.feed("\x1b[2;1H\x1b[31mloss 0.1239\x1b[0m\x1b[1;1H")
    assert shadow.frame() == "\x1b[2;11H\x1b[31m9\x1b[m\x1b[H"


def test_a_forgotten_screen_is_sent_whole() -> None:
    shadow, terminal = Shadow(10, 2), Terminal(10, 2)
    data = "\x1b[1;1Hhello\x1b[2;1H\x1b[1mworld\x1b[0m"
    shadow.feed(data)
    shadow.frame()
    shadow.forget()
    shadow.feed(data)
    terminal.feed(shadow.frame())
    assert [row.rstrip() for row in terminal.screen.display] == ["hello", "world"]


def test_modes_pass_at_once_and_brackets_are_noted() -> None:
    shadow = Shadow(10, 2)
    assert shadow.feed("\x1b[?25l\x1b[?2026h\x1b[1;1Hab") == "\x1b[?25l"
    assert shadow.in_sync
    assert shadow.feed("\x1b[?2026l\x1b]52;c;eA==\x07\x07") == "\x1b]52;c;eA==\x07\x07"
    assert not shadow.in_sync
    assert "ab" in shadow.frame()


def test_links_are_part_of_the_style() -> None:
    shadow = Shadow(20, 2)
    link = "\x1b]8;id=1;http://x\x1b\\\x1b[4mdocs\x1b[0m\x1b]8;;\x1b\\ plain"
    shadow.feed("\x1b[1;1H" + link)
    assert shadow.frame() == "\x1b[H\x1b]8;id=1;http://x\x1b\\\x1b[4mdocs\x1b]8;;\x1b\\\x1b[m plain"


def test_a_terminal_that_takes_nothing_costs_bounded_memory() -> None:
    shadow, stock, ours = Shadow(20, 3), Terminal(20, 3), Terminal(20, 3)
    for number in range(30_000):
        data = f"\x1b[1;1H\x1b[1m{number:>6}\x1b[0m\x1b[2;3Hxy"
        shadow.feed(data)
        stock.feed(data) if number > 29_990 else None
    data = "\x1b[1;9H界 late"
    stock.feed(data)
    shadow.feed(data)
    ours.feed(shadow.frame())
    assert sum(len(row.operations) for row in shadow._rows) == 0
    assert ours.cells() == stock.cells()


def test_many_colours_do_not_grow_the_tables_without_end() -> None:
    shadow, stock, ours = Shadow(20, 3), Terminal(20, 3), Terminal(20, 3)
    for number in range(20_000):
        data = f"\x1b[1;{number % 18 + 1}H\x1b[38;2;{number % 256};{number // 256};7mx\x1b[0m"
        shadow.feed(data)
        frame = shadow.frame()
        if number > 19_900 or number < 20:
            stock.feed(data)
            ours.feed(frame)
    assert len(shadow._style_list) <= 16_385
    assert ours.cells() == stock.cells()
