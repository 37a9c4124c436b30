"""Predictions as files, written as they come: a table (TSV, parquet) or a track (bedGraph)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cmgems.errors import UserError
from cmgems.evaluation.prediction.inputs import Input
from cmgems.evaluation.prediction.predictor import VALUE, PredictedItems, Predictor
from cmgems.utils.escapes import table_field
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar

TABLES, TRACKS = (".tsv", ".parquet"), (".bedgraph", ".bg")
_NUMBERS = ("start", "end")  # columns of whole numbers

_Write = Callable[[IO[bytes], Iterable[PredictedItems]], None]


def write_predictions(predictor: Predictor, source: Input, out: Path, write: _Write) -> str:
    """Predict and write all of an input; what is to be said of it at the end.

    Raises
    ------
    UserError
        If nothing could be predicted; nothing is written then.
    """
    listed: Counter[str] = Counter()
    predicted = 0

    def counted() -> Iterator[PredictedItems]:
        nonlocal predicted
        for part in predictor.predict_items(source.items):
            reasons = part.reasons()
            listed.update(reasons)
            predicted += len(part.items) - reasons.total()
            advance(len(part.items))
            yield part

    with progress_bar(source.total, "predicting", " sequences") as advance:
        with atomic_write(out, "wb") as handle:
            write(handle, counted())
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in listed.most_common())
            if not predicted:
                raise UserError(f"nothing could be predicted ({reasons}), wrote no {out}")
    text = f"wrote {out}: {predicted:,} predictions"
    text += f"; without one: {reasons}" if reasons else ""
    return text + (f"; {predictor.cut:,} read in their middle alone" if predictor.cut else "")


def table_writer(predictor: Predictor, source: Input, suffix: str) -> _Write:
    """Writes a row per item: its place, a column per class (`p_CLASS`) or `value`, and `why`.

    Raises
    ------
    UserError
        If it is to be parquet and pyarrow is not installed.
    """
    regression = predictor.kind == "regression"
    values = (VALUE,) if regression else tuple(f"p_{name}" for name in predictor.columns)
    if suffix == ".tsv":
        return lambda handle, parts: _write_tsv(handle, parts, (*source.columns, *values, "why"))
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "--out: found .parquet and no pyarrow, wanted .tsv, or pip install 'cmgems[parquet]'"
        ) from error
    text = pyarrow.string()
    kinds = {name: pyarrow.int64() if name in _NUMBERS else text for name in source.columns}
    numbers = {name: pyarrow.float32() for name in values}
    schema = pyarrow.schema([*kinds.items(), *numbers.items(), ("why", text)])

    def write(handle: IO[bytes], parts: Iterable[PredictedItems]) -> None:
        with pyarrow.parquet.ParquetWriter(handle, schema) as file:
            for part in parts:
                file.write_table(pyarrow.table(_columns(part), schema=schema))

    return write


def _columns(part: PredictedItems) -> list[list[Any]]:
    """Its columns; without a value where there is no prediction."""
    places = [list(column) for column in zip(*(item.place for item in part.items), strict=True)]
    rows = zip(part.items, part.values.tolist(), strict=True)
    known = [[None] * part.values.shape[1] if item.why else values for item, values in rows]
    return [*places, *map(list, zip(*known, strict=True)), [item.why for item in part.items]]


def _write_tsv(
    handle: IO[bytes], parts: Iterable[PredictedItems], columns: tuple[str, ...]
) -> None:
    handle.write(("\t".join(map(table_field, columns)) + "\n").encode())
    for part in parts:
        for item, values in zip(part.items, part.values.tolist(), strict=True):
            numbers = ("" if item.why else f"{value:.6g}" for value in values)
            fields = (*map(table_field, item.place), *numbers, table_field(item.why))
            handle.write(("\t".join(fields) + "\n").encode())


def track_writer(predictor: Predictor, name: str, step: int) -> _Write:
    """Writes a line per window: what is predicted of it, at the `step` bases in its middle.

    So no two lines overlap. A window that is shorter than a step keeps its own bases.

    Parameters
    ----------
    name : the class; "" for the second of two, or the value of a regression

    Raises
    ------
    UserError
        If there is no such class, or none is named of more than two.
    """
    columns = predictor.columns
    if not name and len(columns) > 2:
        raise UserError(f"--class: found none, wanted one of {', '.join(columns)}")
    if name and name not in columns:
        raise UserError(f"--class: found {name}, wanted one of {', '.join(columns)}")
    column = columns.index(name) if name else len(columns) - 1

    def write(handle: IO[bytes], parts: Iterable[PredictedItems]) -> None:
        handle.write(f'track type=bedGraph name="{table_field(columns[column])}"\n'.encode())
        for part in parts:
            for item, value in zip(part.items, part.values[:, column].tolist(), strict=True):
                if not item.why:
                    contig, start, end = item.place
                    first, last = _middle(int(start), int(end), step)
                    handle.write(f"{contig}\t{first}\t{last}\t{value:.6g}\n".encode())

    return write


def _middle(start: int, end: int, step: int) -> tuple[int, int]:
    """The `step` bases in the middle of a window, or all of a shorter one."""
    first = start + max(end - start - step, 0) // 2
    return first, min(first + step, end)
