"""An `Inspection` as one HTML page that needs nothing else: no script, no font, no network."""

import io
from html import escape
from itertools import pairwise

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from cmgems.curriculum.plot import schedule_figure
from cmgems.genome.alphabet import BASES
from cmgems.inspection.inspect import DRAWS, Inspection, MaskSample
from cmgems.tokenization.base import width
from cmgems.utils.html import html_page, html_table

LINE = 102  # bases a line
SHOWN = 306  # bases of the window that are spelled out
LETTERS = BASES + "N"

STYLE = """
pre { font: 12.5px/1.55 ui-monospace, Menlo, Consolas, monospace; margin: .2em 0; }
.h { background: #b3261e; color: #fff; } .m { background: #fbd9a5; } .n { color: #aaa; }
.at { color: #888; }
"""

COLUMNS = (
    ("masked_fraction", "masked tokens", "{:.3f}"),
    ("hidden_fraction", "hidden bases", "{:.3f}"),
    ("copyable_fraction", "masked, but readable off neighbours", "{:.2f}"),
    ("hidden_per_masked", "hidden bases a masked token", "{:.2f}"),
    ("perplexity_floor", "perplexity floor", "{:.0f}"),
    ("rank_masked", "mean rank, masked", "{:.3f}"),
    ("rank_others", "mean rank, others", "{:.3f}"),
    ("gc_hidden", "GC, hidden", "{:.3f}"),
    ("gc_others", "GC, others", "{:.3f}"),
    ("low_complexity_hidden", "low complexity, hidden", "{:.3f}"),
    ("low_complexity_others", "low complexity, others", "{:.3f}"),
)


def page(found: Inspection) -> str:
    """The whole page."""
    name = escape(found.experiment.name)
    sections = [
        f"<h1>What the masks of {name} do</h1>",
        f'<p class="note">{escape(_where(found))}</p>',
        _introduction(found),
        "<h2>All strategies, at one budget</h2>",
        _table(found.strategies),
        _explanation(found),
        "<h2>The curriculum</h2>",
        _schedule(found),
        *(
            f"<h3>step {step:,}: {escape(shown.title)}</h3>{_numbers(shown)}{_bases(found, shown)}"
            for step, shown in found.schedule_samples
        ),
        "<h2>One window under each strategy</h2>",
        *(
            f"<h3>{escape(shown.title)}</h3>{_numbers(shown)}{_bases(found, shown)}"
            for shown in found.strategies
        ),
        "<h2>What is selected, and where</h2>",
        _rank_note(found),
        _ranks(found),
        "<h3>How often each place of the window is masked</h3>",
        f'<p class="note">Share of {DRAWS} draws; at the top the rank of the token at each place, '
        "the best-ranked highest.</p>",
        _places(found),
    ]
    return html_page(f"{found.experiment.name}: masks", sections, STYLE)


def _where(found: Inspection) -> str:
    return (
        f"{found.region.name} of {found.genome}: {found.windows} windows of "
        f"{len(found.window_L)} bases, tokens are {found.tokenization.description}"
    )


def _introduction(found: Inspection) -> str:
    windows, tokens = found.tokenization.windows, found.tokenization.description
    hidden = found.tokenization.max_hidden_run
    if not windows.overlap:
        return (
            f'<p>Tokens are {tokens}: every masked base is <span class="h">hidden</span>. The rank '
            f"of a base is that of the {hidden} bases around it, and a strategy that goes by rank "
            f"masks these {hidden} bases.</p>"
        )
    return (
        f"<p>Tokens are {tokens}: each overlaps the next by {windows.overlap} bases. A base is "
        f'<span class="h">hidden</span> only where every token over it is masked; in a '
        f'<span class="m">masked</span> token without a hidden base the model can copy each base '
        f"from unmasked neighbours. {width(windows.plain)} masked tokens in a row hide 1 base, "
        f"{width(windows.wide)} hide {hidden}.</p>"
    )


def _table(portraits: list[MaskSample]) -> str:
    rows = (
        (
            shown.title,
            *(form.format(getattr(shown.figures, field)) for field, _, form in COLUMNS),
        )
        for shown in portraits
    )
    return html_table(("strategy", *(title for _, title, _ in COLUMNS)), rows)


def _explanation(found: Inspection) -> str:
    masking = found.experiment.masking
    budget = f"Wanted: {masking.mask_ratio:g} of the tokens."
    if masking.center_rate == "paper":
        budget = "Centre rates of the paper, whatever share they mask."
    return (
        f'<p class="note">{budget} The rate is solved on the training genome, so a short region '
        "may differ. Rank: 0 is the k-mer of the highest PMI, 1 the lowest. Perplexity floor: of a "
        "model that copies what can be copied and pays 1.9 bits for each hidden base. Low "
        "complexity: DUST score above 2 in the 32 bases around. Static strategies choose the same "
        "places in every draw; see the last figure. No model has been asked: "
        "<code>loss_adaptive</code> has the ranks of PMI here.</p>"
    )


def _schedule(found: Inspection) -> str:
    curriculum, max_steps = found.experiment.curriculum, found.experiment.train.max_steps
    if len(curriculum.strategies) == 1:
        return f"<p>{escape(curriculum.strategies[0])} throughout.</p>"
    figure = schedule_figure(
        curriculum.strategies,
        lambda step: found.places[step],
        max_steps,
        title=f"{curriculum.schedule}, {curriculum.order}, mixed by {curriculum.mix_by}",
    )
    note = ""
    if not found.planned:
        note = (
            '<p class="note">The switch of a plateau curriculum comes when the validation loss '
            "flattens; here the stages are drawn equally long.</p>"
        )
    return _svg(figure) + note


def _numbers(shown: MaskSample) -> str:
    masked, hidden = int(shown.mask_K.sum()), int(shown.hidden_L.sum())
    return (
        f'<p class="note">this window, one draw: {masked} of {len(shown.mask_K)} tokens masked, '
        f"{hidden} of {len(shown.hidden_L)} bases hidden</p>"
    )


def _bases(found: Inspection, shown: MaskSample) -> str:
    """The first bases of the window, marked."""
    classes = np.where(shown.hidden_L, "h", np.where(shown.masked_L, "m", ""))
    classes = np.where(found.window_L > 3, "n", classes)
    lines = []
    for start in range(0, min(SHOWN, len(classes)), LINE):
        place = f'<span class="at">{found.region.first_base + start:>12,}  </span>'
        lines.append(place + _line(found.window_L, classes, start))
    return "<pre>" + "\n".join(lines) + "</pre>"


def _line(codes_L: np.ndarray, classes: np.ndarray, start: int) -> str:
    end = min(start + LINE, SHOWN, len(codes_L))
    cuts = [start, *(i for i in range(start + 1, end) if classes[i] != classes[i - 1]), end]
    parts = []
    for first, last in pairwise(cuts):
        text = "".join(LETTERS[min(code, 4)] for code in codes_L[first:last])
        kind = classes[first]
        parts.append(f'<span class="{kind}">{text}</span>' if kind else text)
    return "".join(parts)


def _rank_note(found: Inspection) -> str:
    return (
        '<p class="note">Ranks of masked tokens (filled) against those of all tokens of the region '
        "(line). A mask is wider than what it was placed for, so its neighbours are in it too.</p>"
    )


def _ranks(found: Inspection) -> str:
    columns = 5
    rows = -(-len(found.strategies) // columns)
    figure = Figure(figsize=(11, 1.7 * rows), layout="constrained")
    bins = np.linspace(0, 1, 21)
    every, _ = np.histogram(found.rank_all, bins, density=True)
    all_axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, shown in zip(all_axes, found.strategies, strict=False):
        axes.hist(shown.rank_masked, bins, density=True, color="#d98e04", alpha=0.8)
        axes.stairs(every, bins, color="black", linewidth=1)
        axes.set_title(shown.title, fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in all_axes[len(found.strategies) :]:
        axes.set_visible(False)
    figure.supxlabel("rank, 0 = highest PMI", fontsize=8)
    figure.supylabel("density", fontsize=8)
    return _svg(figure)


def _places(found: Inspection) -> str:
    rows = len(found.strategies) + 1
    figure = Figure(figsize=(11, 0.72 * rows + 0.4), layout="constrained")
    all_axes = figure.subplots(rows, 1, sharex=True)
    places = np.arange(len(found.rank_K)) + found.region.first_base
    all_axes[0].fill_between(places, 1 - found.rank_K, step="mid", color="#777", linewidth=0)
    all_axes[0].set_ylabel("rank", rotation=0, ha="right", va="center", fontsize=8)
    for axes, shown in zip(all_axes[1:], found.strategies, strict=True):
        axes.fill_between(places, shown.mask_frequency_K, step="mid", color="#b3261e", linewidth=0)
        axes.set_ylabel(shown.title, rotation=0, ha="right", va="center", fontsize=8)
    for axes in all_axes:
        axes.set(ylim=(0, 1), yticks=(0, 1), xlim=(places[0], places[-1]))
        axes.tick_params(labelsize=7)
    all_axes[-1].ticklabel_format(style="plain", useOffset=False)
    all_axes[-1].set_xlabel(f"place in {found.region.contig_name}", fontsize=8)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """The figure as an inline SVG element."""
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "cmgems"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
