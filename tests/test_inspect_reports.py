"""What is said of the findings: advice, a terminal, images, a page; and what a browser makes of that page."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from dpo_collate import PreferenceCollator
from dpo_collate.inspection import Inspection, inspect, inspecting
from dpo_collate.inspection.drawings import drawings
from dpo_collate.inspection.html import page, write
from dpo_collate.inspection.plots import save
from dpo_collate.inspection.tables import tables
from dpo_collate.inspection.terminal import show
from dpo_collate.inspection.words import nbytes, percent
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.named import named
from test_inspect import log_normal

TITLE = "pairs/<b>&\"quoted\" 'data'.parquet"


@pytest.fixture(scope="module")
def long_tailed() -> Inspection:
    prompt, chosen, rejected = log_normal(6000)
    lengths = np.column_stack([prompt + chosen, prompt + rejected])
    collator = PreferenceCollator("concatenated", pad_token_id=0, inputs="split")
    parts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return inspect(lengths, collator, parts=parts, max_tokens=16_384)


def said(found: Inspection) -> dict[str, str]:
    return {each.topic: each.text for each in found.advice}


def test_advice_is_ordered_by_what_it_saves(long_tailed: Inspection) -> None:
    assert [each.topic for each in long_tailed.advice] == ["sampler", "layout", "buckets"]
    saves = [each.saves for each in long_tailed.advice if each.saves]
    assert saves == sorted(saves, reverse=True)
    before, after = long_tailed.choice(), long_tailed.choice(way="budget")
    fewer = (before.padded - before.real) / before.real / ((after.padded - after.real) / after.real)
    assert said(long_tailed)["sampler"] == (
        f"`concatenated` with PairBatchSampler(max_tokens=16384) pads {percent(after.share)} where shuffled batches "
        f"pad {percent(before.share)}: {fewer:.1f} times fewer padded tokens, {percent(long_tailed.advice[0].saves)} "
        f"fewer cells in all. LengthGroupedSampler of transformers pads "
        f"{percent(long_tailed.choice(way='grouped').share)}."
    )
    separate = long_tailed.choice(layout="separate", way="budget")
    assert said(long_tailed)["layout"] == (
        f"`concatenated` cannot pad less than {percent(long_tailed.least[0].share)}, however batches are formed, as "
        f"the rows of a pair share one width. With PairBatchSampler(max_tokens=16384) it pads {percent(after.share)}; "
        f"`separate` {percent(separate.share)}, `padding_free` 0%. That needs a trainer that takes such batches."
    )
    best = long_tailed.choice(rounding="best 8 buckets", way="budget")
    exact = long_tailed.choice(rounding="exact", way="budget")
    multiple = long_tailed.choice(rounding="multiple of 128", way="budget")
    assert said(long_tailed)["buckets"] == (
        f"For compiled models and CUDA graphs: buckets={best.buckets} give {best.shapes} shapes where exact widths "
        f"give {exact.shapes}, for {percent(best.padded / exact.padded - 1)} more cells; a multiple of 128 gives "
        f"{multiple.shapes} shapes for {percent(multiple.padded / exact.padded - 1)} more cells."
    )


def test_nothing_is_invented() -> None:
    assert [each.topic for each in inspect([[7, 7]] * 9, "separate").advice] == ["nothing"]
    assert said(inspect([[7, 7]] * 9, "separate"))["nothing"] == (
        "There is nothing to gain: `separate` pads nothing, even in shuffled batches."
    )
    nearly = inspect([[1000, 1000], [999, 1000]], "separate")
    assert said(nearly)["nothing"] == (
        "There is nothing to gain: shuffled batches of `separate` pad 0.02%, and no other way that was looked at saves "
        "a hundredth."
    )
    empty = inspect([[0, 0]] * 3, PreferenceCollator(pad_token_id=0, buckets=(8,)))
    assert list(said(empty)) == ["nothing"]


def test_what_must_be_known_comes_first() -> None:
    rows = np.array([[5, 3], [60, 2], [2, 8], [4, 4], [1, 70]])
    strict = PreferenceCollator(pad_token_id=0, max_length=64, truncation_mode="error")
    found = inspect(rows, strict, max_tokens=50)
    assert [each.text for each in found.advice][:2] == [
        "The collator refuses 1 pair of 5, as rows are longer than max_length. No batch here has them.",
        (
            "1 pair has more padded tokens by itself than max_tokens=50: PairBatchSampler refuses it, or leaves it "
            "out with oversize='drop', as here."
        ),
    ]
    assert "cut" not in said(found)  # nothing is cut where it is an error
    both = replace(strict, max_length=65, buckets=(66,))
    assert inspect(rows, both).advice[0].text == (
        "The collator refuses 1 pair of 5, as rows are longer than max_length or the largest bucket. No batch here has "
        "them."
    )
    (matrix, *others) = named("separate").matrices
    one = replace(matrix, length=replace(matrix.length, max_length=64, truncation_mode="error"))
    of_one = replace(named("separate"), matrices=(one, *others))
    assert inspect([*rows, [65, 1]], of_one).advice[0].text == (
        "The collator refuses 1 pair of 6, as rows are longer than it allows. No batch here has them."
    )
    bucketed = inspect(rows, PreferenceCollator("padding_free", pad_token_id=0, buckets=(16, 32)), batch_size=3)
    assert bucketed.advice[0].text == (
        "The collator refuses 2 pairs of 5, as rows are longer than the largest bucket. No batch here has them."
    )
    flat = PreferenceCollator("padding_free", pad_token_id=0, buckets=(16, 32))
    shuffled = inspect([[16, 14]] * 4, flat, batch_size=2)
    assert shuffled.advice[0].text == (
        "2 batches of 2, if shuffled, would be longer than the largest bucket: the collator would refuse them. They "
        "are in no figure here. PairBatchSampler makes none that is refused."
    )
    assert len(shuffled.advice) == 1  # nothing is known of what there would be to gain
    dots = drawings(shuffled)[1].figure.axes[0].collections
    assert sum(len(np.asarray(each.get_offsets())) for each in dots) == len(shuffled.least) * 4 - 3
    assert "padding_free: -* shuffled, -* LengthGroupedSampler" in drawings(shuffled)[1].alt
    assert "<dd>-*</dd>" in page(shuffled)  # no share of padding is known
    assert tables(shuffled)[1].rows[0][:5] == ("padding_free", "-*", "-*", "-*", "6.2%")
    cut = inspect(rows, PreferenceCollator(pad_token_id=0, max_length=64))
    assert said(cut)["cut"] == (
        "max_length=64 cuts 10% of the rows and loses 3.8% of the tokens; it touches 1 pair of 5."
    )
    two = inspect([*rows, [60, 3]], "separate", max_tokens=50)
    assert two.advice[0].text.startswith("3 pairs have more padded tokens by themselves than max_tokens=50: ")


def test_pairs_of_which_nothing_is_left_to_score() -> None:
    rows = np.array([[9, 7], [9, 7], [5, 3], [60, 2], [7, 7]])
    prompts = {"prompt": [6, 7, 2, 1, 7]}
    collator = PreferenceCollator(pad_token_id=0, inputs="split", max_length=7)
    found = inspect(rows, collator, parts=prompts)
    assert (found.refused, found.unscored, found.sampled) == (1, 1, 4)
    assert found.advice[0].text == (
        "1 pair has a prompt of max_length=7 tokens or more: nothing of its completions would be left, and the "
        "collator refuses it; `dpo-collate check --write-clean` leaves it out. No batch here has it."
    )
    assert found.advice[1].topic == "cut"
    more = inspect(rows, replace(collator, max_length=6, buckets=(6, 8)), parts=prompts)
    assert more.advice[0].text.startswith("2 pairs have a prompt of max_length=6 tokens or more: nothing of their ")
    assert more.advice[0].text.endswith("leaves them out. No batch here has them.")
    table = tables(found)[-1]
    assert table.columns[-1] == "pairs refused"
    assert ("7 (the collator's)", "3", "60%", "30%", "49%", "1") in table.rows
    assert table.text.endswith("nothing left to score: the collator refuses such pairs.")
    unknown = tables(inspect(rows, collator))[-1]
    assert unknown.columns[-1] == "of tokens"
    assert unknown.text.endswith("not known here, but `dpo-collate check` finds such pairs.")
    for mode in ("keep_end", "error"):
        other = inspect(rows, replace(collator, truncation_mode=mode), parts=prompts)
        assert other.unscored == 0
        assert tables(other)[-1].columns[-1] == "of tokens"
        assert tables(other)[-1].text == "What would be lost if rows were truncated."


def test_your_widths_and_multiples() -> None:
    prompt, chosen, _ = log_normal(3000)
    lengths = np.column_stack([prompt + chosen, prompt + chosen])
    found = inspect(lengths, PreferenceCollator("concatenated", pad_token_id=0, pad_to_multiple_of=8))
    own, best, multiple = (
        found.choice(rounding=each, way="pairs") for each in (None, "best 8 buckets", "multiple of 128")
    )
    assert said(found)["buckets"].endswith(
        f" shapes where your widths give {own.shapes}, for {percent(best.padded / own.padded - 1)} more cells; a "
        f"multiple of 128 gives {multiple.shapes} shapes for {percent(multiple.padded / own.padded - 1)} more cells."
    )
    # A multiple is not said where it has almost as many shapes, or more cells than the buckets.
    finer = said(inspect(lengths, PreferenceCollator("concatenated", pad_token_id=0, pad_to_multiple_of=64)))["buckets"]
    assert finer.endswith("% more cells.")
    assert "a multiple" not in finer
    few = PreferenceCollator("concatenated", pad_token_id=0, pad_to_multiple_of=256)
    assert "buckets" not in said(inspect(lengths, few, buckets=6))
    many = [[65, 65]] * 4000 + [[length, length] for length in range(100, 3000, 32)]
    coarse = inspect(many, PreferenceCollator(pad_token_id=0, pad_to_multiple_of=32), batch_size=1, buckets=3)
    assert re.search(r"where your widths give \d+, for [\d.]+% fewer cells\.$", said(coarse)["buckets"])


def test_lengths_of_tiles_are_no_tokens() -> None:
    assert tables(inspect([[3, 4]], "separate"))[0].columns[0] == "tokens"
    with_tiles = tables(inspect([[3, 4]], "separate", tiles=[1]))[0]
    assert with_tiles.columns[0] == "tokens or tiles"
    assert with_tiles.text.endswith("Lengths are those before truncation.")


def test_widths_that_are_rounded_too_far() -> None:
    rows = np.array([[5, 3], [6, 2], [2, 8], [4, 4]] * 3)
    found = inspect(rows, PreferenceCollator(pad_token_id=0, pad_to_multiple_of=64), batch_size=2)
    own, exact = found.choice(way="pairs"), found.choice(rounding="exact", way="pairs")
    assert said(found)["rounding"] == (
        f"Widths rounded up (multiple of 64) pad {percent(own.share)} with PairBatchSampler; exact widths pad "
        f"{percent(exact.share)}."
    )
    coarse = inspect(rows * 20, PreferenceCollator(pad_token_id=0, buckets=(64, 256)), batch_size=2, buckets=3)
    best = coarse.choice(rounding="best 3 buckets", way="pairs")
    assert said(coarse)["buckets"] == (
        f"buckets={best.buckets} pad {percent(best.share)} where the collator's 2 buckets pad "
        f"{percent(coarse.choice(way='pairs').share)}, both with PairBatchSampler."
    )
    fine = PreferenceCollator(pad_token_id=0, buckets=best.buckets)
    assert "buckets" not in said(inspect(rows * 20, fine, batch_size=2, buckets=3))


def test_why_a_layout_pads_at_least_so_much() -> None:
    """Not because the rows of a pair share one width, where each has its own."""
    uneven = [[64, 10]] * 8
    assert "as the rows of a pair share one width" in said(inspect(uneven, "concatenated"))["layout"]
    for name in ("separate", "concatenated"):
        multiples = PreferenceCollator(name, pad_token_id=0, row_multiple_of=8)
        assert "share one width" not in said(inspect([[9, 9]] * 4, multiples)).get("layout", "")
    (first, *others) = named("separate").matrices
    wide = [replace(each, length=replace(each.length, min_length=100)) for each in (first, *others)]
    assert said(inspect(uneven, replace(named("separate"), matrices=tuple(wide))))["layout"].startswith(
        "With PairBatchSampler `separate` pads 63%; "
    )


def test_a_budget_that_is_too_large() -> None:
    """All pairs in one batch, which pads more than batches of two; no advice saves more cells than there are."""
    found = inspect([[10, 10], [20, 20], [200, 200], [400, 400]] * 4, "separate", batch_size=2, max_tokens=10**6)
    shuffled, pairs = (percent(found.choice(way=way).share) for way in ("shuffled", "pairs"))
    assert said(found)["sampler"] == (
        f"`separate` with PairBatchSampler(max_tokens=1000000) pads 61%, more than shuffled batches, which pad "
        f"{shuffled}: its batches are larger, with 5,040 tokens where those have 630. PairBatchSampler(batch_size=2) "
        f"pads {pairs}."
    )
    assert all(0 <= each.saves <= 1 for each in found.advice)
    assert found.advice[0].saves == pytest.approx(found.choice().share)  # padding_free pads nothing


def test_little_is_not_called_many_times() -> None:
    rows = [[50, 50]] * 996 + [[600, 600]] * 4
    found = inspect(rows, PreferenceCollator(pad_token_id=0, pad_to_multiple_of=512))
    assert "fewer cells in all" in said(found)["sampler"]
    assert "times" not in said(found)["sampler"]


def test_cells_are_compared_token_by_token() -> None:
    """With buckets more pairs are beyond the budget: what is left out saves nothing."""
    rows = np.random.default_rng(0).integers(1, 200, (400, 2))
    found = inspect(rows, "concatenated", max_tokens=220, buckets=3)
    best, exact = (found.choice(rounding=each, way="budget") for each in ("best 3 buckets", "exact"))
    assert best.real < exact.real
    more = (best.padded / best.real) / (exact.padded / exact.real) - 1
    assert f" where exact widths give {exact.shapes}, for {percent(more)} more cells; " in said(found)["buckets"]
    assert more > 0


def test_shapes_that_cost_too_much() -> None:
    lengths = [[round(2 ** (tenth / 10))] * 2 for tenth in range(120)]
    few, many = (inspect(lengths, "concatenated", batch_size=2, buckets=buckets) for buckets in (2, 8))
    best, exact = (few.choice(rounding=rounding, way="pairs") for rounding in ("best 2 buckets", "exact"))
    assert exact.shapes > 2 * best.shapes
    assert "buckets" not in said(few)
    assert "buckets" in said(many)


def test_few_long_pairs() -> None:
    lengths = np.array([[30, 30]] * 2999 + [[9000, 10]])
    found = inspect(lengths, "concatenated")
    assert said(found)["outliers"] == (
        "1 pair is longer than 30 tokens. The largest batch has 144,000 cells (3.5 MB), the mean 863: the largest "
        "decides how much memory you need. max_length=30 would cut 0.02% of the rows and 4.7% of the tokens; "
        "max_tokens of PairBatchSampler bounds a batch without cutting."
    )
    split = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
    known = inspect([*lengths[:-1], [9000, 40]], split, parts={"prompt": [30] * 2999 + [35]})
    assert " of the tokens, and leave 1 pair with nothing to score; max_tokens" in said(known)["outliers"]
    alone = inspect(lengths, "concatenated", batch_size=1)  # which nothing else can bound
    assert said(alone)["outliers"].endswith("would cut 0.02% of the rows and 4.7% of the tokens.")
    assert "outliers" not in said(inspect(lengths, PreferenceCollator(pad_token_id=0, max_length=10_000)))
    assert "outliers" not in said(inspect([[30, 30]] * 2999 + [[60, 10]], "concatenated"))


def printed(found: Inspection, width: int = 80, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    show(console, found, title=TITLE)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_terminal_of_80_columns_without_colours(long_tailed: Inspection) -> None:
    text = printed(long_tailed)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "…" not in text
    assert "forms other batches, by these widths" in " ".join(text.split())
    assert text.startswith(f"{TITLE}\n6,000 pairs; layout concatenated, widths exact; 8 pairs a batch, or ")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for layout in ("concatenated", "separate", "padding_free", "prompt_left"):
        ways = ("shuffled", "grouped", "sorted", "pairs", "budget")
        shares = [percent(long_tailed.choice(layout=layout, way=way).share) for way in ways]
        assert " ".join([layout, *shares]) in lines
    for each in long_tailed.bucket_lists:
        row = f"{len(each.buckets)} {percent(each.share)} {percent(each.padded / each.exact - 1)}"
        assert any(line.startswith(row) for line in lines)
    (longer,) = (each for each in long_tailed.distributions if each.name == "longer side")
    octave = sum(n for n, edge in zip(longer.counts, longer.edges, strict=False) if 512 <= edge < 1024)
    assert any(line.startswith(f"512 to 1,023 {octave:,} {percent(octave / 6000)} █") for line in lines)
    unstyled = " ".join(text.split())
    for advice in long_tailed.advice:
        assert advice.text.replace("`", "") in unstyled


def test_other_terminals(long_tailed: Inspection) -> None:
    assert "\x1b[1m" in printed(long_tailed, force_terminal=True, color_system="standard")
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80)
    show(console, inspect([[3, 40], [9, 12]], "separate", tiles=[1, 2]))
    console.file.flush()
    text = console.file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert re.search(r"11 to 15 +\| +1 \| +50% \|#{40}\n", text)
    assert re.search(r"tiles +\| +1 \| +2 \| +1 \| +2 \| +2 \| +2 \|@@ ", text)


def test_notes_say_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "SAMPLE", 2)
    some = inspect([[3, 4]] * 5, "separate")
    assert "Batches were formed of 2 pairs, drawn at random from 5." in " ".join(printed(some).split())
    rows = [[3, 4]] * 3000 + [[99, 9]] * 3000  # half of which are refused
    many = inspect(rows, PreferenceCollator(pad_token_id=0, buckets=(8,)), batch_size=2)
    assert {row[1] for row in tables(many)[2].rows} == {"about 1.5k"}
    assert "forms other batches" not in tables(many)[4].text  # there is one list of buckets, and no such choice
    assert tables(many)[2].text.startswith("Batches of `separate`, of 2 pairs that were drawn; ")
    assert tables(many)[3].text.endswith("of PairBatchSampler have, of 2 pairs that were drawn.")
    assert {row[1] for row in tables(some)[2].rows} == {"about 2"}
    flat = inspect([[9, 9]] * 2, PreferenceCollator("padding_free", pad_token_id=0, buckets=(18,)), batch_size=2)
    assert "*: some of the batches are longer than the largest bucket" in " ".join(printed(flat).split())
    assert re.search(r"padding_free\s+-\*", printed(flat))
    # A width of 64 is more than a batch may have.
    small = printed(inspect([[9, 9]] * 2, PreferenceCollator(pad_token_id=0, max_length=20), max_tokens=40))
    assert "max_length=20" in small.splitlines()[1]
    assert re.search(r"multiple of 64 +86% +86% +86% +86% +- +-\n", small)


def test_drawings_have_room_for_their_texts(long_tailed: Inspection) -> None:
    for drawing in drawings(long_tailed):
        drawing.figure.draw_without_rendering()
        for axes in drawing.figure.axes:
            box = axes.xaxis.label.get_window_extent()
            assert drawing.figure.bbox.x0 + 12 <= box.x0 < box.x1 <= drawing.figure.bbox.x1 - 12, drawing.name


def test_plots_are_written(long_tailed: Inspection, tmp_path: Path) -> None:
    paths = save(tmp_path / "made" / "here", long_tailed)
    assert [path.name for path in paths] == [
        "lengths.png",
        "padding_by_layout.png",
        "batches.png",
        "padding_by_rounding.png",
        "buckets.png",
        "max_length.png",
    ]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("lengths", [[[0, 0]] * 3, [[3, 3]] * 20 + [[100_000, 2]]])
def test_small_and_uneven_inputs_have_a_page(lengths: list[list[int]]) -> None:
    found = inspect(lengths, "padding_free", batch_size=4)
    assert page(found).count("<svg") == 6
    assert printed(found)


class Page(HTMLParser):
    """Cells of tables by section, links, ids, and what could ask for something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.labels: list[str] = []
        self._section = ""
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.tags.append(tag)
        self.ids += [str(of["id"])] if "id" in of else []
        self.links += [str(of[name]) for name in ("href", "src", "action", "data", "poster") if name in of]
        if tag == "svg":
            self.labels.append(str(of["aria-label"]))
        if tag == "section":
            self._section = str(of["id"])
        elif tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        elif tag in {"td", "th"}:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"} and self._cell is not None:
            self.rows[self._section][-1].append("".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def test_names_are_text_everywhere() -> None:
    name = "$\\frac{$<script>alert(1)</script>--><!-- [bold]"
    matrix = Matrix(((name,),), (Column("ids"),), tokens="{}_ids")
    found = inspect([[3], [9]], Layout(name, (matrix,)), parts={"&amp;": [1, 2]})
    text = page(found, title=name)
    assert "<script" not in text
    assert "<!--" not in text
    assert "&amp;amp;" in text
    assert [cells[0] for cells in Page(text).rows["lengths"]] == ["tokens", "&amp;", name]
    assert name in printed(found, 200)


def test_the_page_has_the_figures_and_asks_for_nothing(long_tailed: Inspection, tmp_path: Path) -> None:
    path = tmp_path / "pairs.html"
    write(path, long_tailed, title=TITLE)
    text = path.read_text(encoding="utf-8")
    assert "http" not in text
    assert "xlink" not in text
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    assert "@import" not in text
    assert "<b>" not in text
    assert "<h1>pairs/&lt;b&gt;&amp;&quot;quoted&quot; &#x27;data&#x27;.parquet</h1>" in text
    read = Page(text)
    assert "script" not in read.tags
    assert len(read.ids) == len(set(read.ids))
    assert all(link.startswith("#") and link[1:] in read.ids for link in read.links)
    assert len(read.labels) == 6
    assert read.labels[1].startswith(
        f"Share of padding. concatenated: {percent(long_tailed.choice().share)} shuffled, "
    )
    for table in tables(long_tailed):
        assert read.rows[table.key] == [list(table.columns), *map(list, table.rows)]
    # And these are what was found.
    first = long_tailed.choice()
    assert read.rows["batches"][1][5:] == [nbytes(first.bytes_mean), nbytes(first.bytes_most), f"{first.shapes:,}"]
    assert read.rows["max-length"][1][0] == "512"
    assert [row[2:] for row in read.rows["max-length"][1:]] == [
        [*map(percent, (each.pair_share, each.row_share, each.token_share)), f"{each.unscored:,}"]
        for each in long_tailed.cuts
    ]
    own = [each for each in long_tailed.choices if each.layout == "concatenated"]
    shapes = {each.rounding: each.shapes for each in own if each.way == "budget"}
    assert {row[0]: row[-1] for row in read.rows["widths"]} == {
        "widths": "shapes",
        **{name: f"{number:,}" for name, number in shapes.items()},
    }
    assert [row[-1] for row in read.rows["buckets"][1:]] == [
        ", ".join(map(str, each.buckets)) for each in long_tailed.bucket_lists
    ]


PROBE = """<script>onload = () => parent.postMessage({
    width: document.scrollingElement.scrollWidth, inner: innerWidth,
    outside: [...document.querySelectorAll("main *")].filter((each) => !each.closest(".scroll")
        && each.getBoundingClientRect().right > innerWidth).map((each) => each.tagName),
    requests: performance.getEntriesByType("resource").length,
    paper: getComputedStyle(document.body).backgroundColor,
    axis: getComputedStyle(document.querySelector("svg text")).fill,
    fixed: [...document.querySelectorAll(".scroll")].every((each) => {
        const cell = each.querySelector("tbody th"), left = cell.getBoundingClientRect().left;
        each.scrollLeft = 60;
        return cell.getBoundingClientRect().left === left;
    }),
    shadow: getComputedStyle(document.querySelector(".scroll")).backgroundAttachment,
    wide: [...document.querySelectorAll(".scroll")].map((each) => each.scrollWidth >= each.clientWidth).length,
}, "*")</script>"""

FRAME = """<!DOCTYPE html><p id=found></p><iframe src="page.html" style="width:390px; height:800px; border:0"></iframe>
<script>onmessage = (event) => { found.textContent = JSON.stringify(event.data) }</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_as_wide_as_a_phone(long_tailed: Inspection, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(long_tailed, title=TITLE) + PROBE, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME, encoding="utf-8")
    found = {}
    for scheme, name in ((1, "light"), (0, "dark")):
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"),
            *("--dump-dom", (tmp_path / "frame.html").as_uri()),
        ]
        dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        text = re.search(r'<p id="found">(.*?)</p>', dom)
        assert text is not None
        found[name] = json.loads(text[1])
        assert found[name]["inner"] == 390
        assert found[name]["width"] <= 390
        assert found[name]["fixed"]
        assert found[name]["shadow"] == "local, local, scroll, scroll"
        assert (found[name]["outside"], found[name]["requests"], found[name]["wide"]) == ([], 0, 6)
    assert (found["light"]["paper"], found["dark"]["paper"]) == ("rgb(255, 255, 255)", "rgb(20, 24, 28)")
    assert (found["light"]["axis"], found["dark"]["axis"]) == ("rgb(29, 35, 41)", "rgb(228, 232, 236)")
