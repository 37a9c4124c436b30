"""An `Inspection` as one HTML page that needs nothing else: no script, no font, no network."""

from html import escape
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from cmgems.curriculum.plot import schedule_figure
from cmgems.genome.alphabet import BASES
from cmgems.inspection.inspect import DRAWS, Inspection, MaskSample
from cmgems.tokenization.base import width
from cmgems.utils.html import html_page, html_table, inline_svg

LINE = 102  # bases per line
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
    ("hidden_per_masked", "hidden bases per masked token", "{:.2f}"),
    ("perplexity_floor", "perplexity floor", "{:.0f}"),
    ("rank_masked", "mean rank, masked", "{:.3f}"),
    ("rank_others", "mean rank, others", "{:.3f}"),
    ("gc_hidden", "GC, hidden", "{:.3f}"),
    ("gc_others", "GC, others", "{:.3f}"),
    ("low_complexity_hidden", "low complexity, hidden", "{:.3f}"),
    ("low_complexity_others", "low complexity, others", "{:.3f}"),
)


def page(inspection: Inspection) -> str:
    """The whole page."""
    name = escape(inspection.experiment.name)
    sections = [
        f"<h1>What the masks of {name} do</h1>",
        f'<p class="note">{escape(_where(inspection))}</p>',
        _introduction(inspection),
        "<h2>All strategies, at one budget</h2>",
        _table(inspection.strategies),
        _explanation(inspection),
        "<h2>The curriculum</h2>",
        _schedule(inspection),
        *(
            _sample(inspection, sample, f"step {step:,}: {sample.title}")
            for step, sample in inspection.schedule_samples
        ),
        "<h2>One window under each strategy</h2>",
        *(_sample(inspection, sample, sample.title) for sample in inspection.strategies),
        "<h2>What is selected, and where</h2>",
        _rank_note(inspection),
        _ranks(inspection),
        "<h3>How often each position of the window is masked</h3>",
        f'<p class="note">Fraction of {DRAWS} draws; at the top the rank of the token at each '
        "position, the best-ranked highest.</p>",
        _mask_frequencies(inspection),
    ]
    return html_page(f"{inspection.experiment.name}: masks", sections, STYLE)


def _where(inspection: Inspection) -> str:
    return (
        f"{inspection.region.name} of {inspection.genome}: {inspection.windows} windows of "
        f"{len(inspection.window_L)} bases, tokens are {inspection.tokenization.description}"
    )


def _introduction(inspection: Inspection) -> str:
    windows, tokens = inspection.tokenization.windows, inspection.tokenization.description
    hidden = inspection.tokenization.max_hidden_run
    if not windows.overlap:
        return (
            f'<p>Tokens are {tokens}: every masked base is <span class="h">hidden</span>. '
            f"{_ranked_bases(inspection)}</p>"
        )
    return (
        f"<p>Tokens are {tokens}: each overlaps the next by {windows.overlap} bases. A base is "
        f'<span class="h">hidden</span> only where every token over it is masked; in a '
        f'<span class="m">masked</span> token without a hidden base the model can copy each base '
        f"from unmasked neighbours. {width(windows.plain)} masked tokens in a row hide 1 base, "
        f"{width(windows.wide)} hide {hidden}.</p>"
    )


def _ranked_bases(inspection: Inspection) -> str:
    """What ranks a token, in words, where tokens do not overlap."""
    hidden = inspection.tokenization.max_hidden_run
    if inspection.tokenization.name == "bpe":
        return (
            "A token has the rank of the n-gram of 2 to 5 tokens that begins there, which a "
            "strategy that goes by rank masks whole, or comes behind all of these by itself."
        )
    if width(inspection.tokenization.windows.wide) == 1:
        return f"A {inspection.tokenization.token} has a rank of its own, single bases have none."
    return (
        f"The rank of a base is that of the {hidden} bases around it, and a strategy that goes by "
        f"rank masks these {hidden} bases."
    )


def _table(samples: list[MaskSample]) -> str:
    rows = (
        (
            sample.title,
            *(form.format(getattr(sample.statistics, field)) for field, _, form in COLUMNS),
        )
        for sample in samples
    )
    return html_table(("strategy", *(title for _, title, _ in COLUMNS)), rows)


def _explanation(inspection: Inspection) -> str:
    masking = inspection.experiment.masking
    counted = "tokens" if masking.budget == "tokens" else "bases hidden"
    budget = f"Wanted: {masking.mask_ratio:g} of the {counted}."
    if masking.center_rate == "paper":
        budget = "Centre rates of the paper, whatever fraction they mask."
    return (
        f'<p class="note">{budget} The rate is solved on the training genome, so a short region '
        "may differ. Rank: 0 is the k-mer of the highest PMI, 1 the lowest. Perplexity floor: of a "
        "model that copies what can be copied and pays 1.9 bits for each hidden base. Low "
        "complexity: DUST score above 2 in the 32 bases around. Static strategies choose the same "
        "positions in every draw; see the last figure. No model has been asked: "
        "<code>loss_adaptive</code> has the ranks of PMI here, <code>reducible</code> those of "
        "<code>markov_easy</code>.</p>"
    )


def _schedule(inspection: Inspection) -> str:
    curriculum, max_steps = inspection.experiment.curriculum, inspection.experiment.train.max_steps
    if len(curriculum.strategies) == 1:
        return f"<p>{escape(curriculum.strategies[0])} throughout.</p>"
    figure = schedule_figure(
        curriculum.strategies,
        lambda step: inspection.progress[step],
        max_steps,
        title=f"{curriculum.schedule}, {curriculum.order}, mixed by {curriculum.mix_by}",
    )
    note = ""
    if not inspection.switches_known:
        note = (
            '<p class="note">The switch of a plateau curriculum comes when the validation loss '
            "flattens; here the stages are drawn equally long.</p>"
        )
    return inline_svg(figure) + note


def _sample(inspection: Inspection, sample: MaskSample, title: str) -> str:
    """The first bases of the window under one mask, with a heading."""
    return f"<h3>{escape(title)}</h3>{_numbers(sample)}{_bases(inspection, sample)}"


def _numbers(sample: MaskSample) -> str:
    masked, hidden = int(sample.mask_K.sum()), int(sample.hidden_L.sum())
    return (
        f'<p class="note">this window, one draw: {masked} of {len(sample.mask_K)} tokens masked, '
        f"{hidden} of {len(sample.hidden_L)} bases hidden</p>"
    )


def _bases(inspection: Inspection, sample: MaskSample) -> str:
    """The first bases of the window, marked."""
    classes = np.where(sample.hidden_L, "h", np.where(sample.masked_L, "m", ""))
    classes = np.where(inspection.window_L > 3, "n", classes)
    lines = []
    for start in range(0, min(SHOWN, len(classes)), LINE):
        position = f'<span class="at">{inspection.region.first_base + start:>12,}  </span>'
        lines.append(position + _line(inspection.window_L, classes, start))
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


def _rank_note(inspection: Inspection) -> str:
    return (
        '<p class="note">Ranks of masked tokens (filled) against those of all tokens of the region '
        "(line). A mask is wider than what it was placed for, so its neighbours are in it too.</p>"
    )


def _ranks(inspection: Inspection) -> str:
    columns = 5
    rows = -(-len(inspection.strategies) // columns)
    figure = Figure(figsize=(11, 1.7 * rows), layout="constrained")
    bins = np.linspace(0, 1, 21)
    every, _ = np.histogram(inspection.rank_all, bins, density=True)
    all_axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, sample in zip(all_axes, inspection.strategies, strict=False):
        axes.hist(sample.rank_masked, bins, density=True, color="#d98e04", alpha=0.8)
        axes.stairs(every, bins, color="black", linewidth=1)
        axes.set_title(sample.title, fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in all_axes[len(inspection.strategies) :]:
        axes.set_visible(False)
    figure.supxlabel("rank, 0 = highest PMI", fontsize=8)
    figure.supylabel("density", fontsize=8)
    return inline_svg(figure)


def _mask_frequencies(inspection: Inspection) -> str:
    rows = len(inspection.strategies) + 1
    figure = Figure(figsize=(11, 0.72 * rows + 0.4), layout="constrained")
    all_axes = figure.subplots(rows, 1, sharex=True)
    positions = np.arange(len(inspection.rank_K)) + inspection.region.first_base
    all_axes[0].fill_between(
        positions, 1 - inspection.rank_K, step="mid", color="#777", linewidth=0
    )
    all_axes[0].set_ylabel("rank", rotation=0, ha="right", va="center", fontsize=8)
    for axes, sample in zip(all_axes[1:], inspection.strategies, strict=True):
        axes.fill_between(
            positions, sample.mask_frequency_K, step="mid", color="#b3261e", linewidth=0
        )
        axes.set_ylabel(sample.title, rotation=0, ha="right", va="center", fontsize=8)
    for axes in all_axes:
        axes.set(ylim=(0, 1), yticks=(0, 1), xlim=(positions[0], positions[-1]))
        axes.tick_params(labelsize=7)
    all_axes[-1].ticklabel_format(style="plain", useOffset=False)
    all_axes[-1].set_xlabel(f"position in {inspection.region.contig_name}", fontsize=8)
    return inline_svg(figure)
