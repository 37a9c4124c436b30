"""A file over HTTP: what came before a cut is kept, and a later try goes on from there."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from shutil import disk_usage
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from cmgems import __version__
from cmgems.errors import UserError
from cmgems.utils.progress import progress_bar

TRIES = 4  # of a connection that breaks, each from where the last one ended
PAUSE = 2.0  # seconds before the second try, twice as many before each further one
TIMEOUT = 30.0  # seconds in which a server has to send something
CHUNK = 1 << 18  # bytes read at a time
MAX_TEXT = 1 << 24  # bytes of a list of checksums


class NotServed(UserError):
    """A server answers, and does not have the file."""


def download(url: str, part: Path, label: str) -> None:
    """Fetch a file, or the rest of it.

    Parameters
    ----------
    url : str
    part : Path
        What an earlier try has left, and what this one makes. Next to it the server's mark of the
        file's state (`.tag`) is stored: of another state, nothing is used.
    label : what the message that says the size begins with

    Raises
    ------
    NotServed
        If the server has no such file.
    UserError
        If the connection broke in every try; `part` stays.
    OSError
        If `part` cannot be written.
    """
    failure = ""
    for attempt in range(TRIES):
        if failure:
            pause = PAUSE * 2 ** (attempt - 1)
            print(f"{url}: {failure}; once more in {pause:g} s", file=sys.stderr)
            time.sleep(pause)
        with _reason_of_failure(url) as reasons:
            _receive(url, part, label)
            return
        failure = reasons[0]
    size = part.stat().st_size if part.exists() else 0
    kept = f" after {describe_size(size)}; the same command goes on from there" if size else ""
    raise UserError(f"{url}: {failure}{kept}")


def read_text(url: str) -> str:
    """A small text file, such as a list of checksums.

    Raises
    ------
    UserError
        If it cannot be had.
    """
    with _reason_of_failure(url) as reasons, _open(url, {}) as response:
        return str(response.read(MAX_TEXT).decode("utf-8", "replace"))
    raise UserError(f"{url}: {reasons[0]}")


@contextmanager
def _reason_of_failure(url: str) -> Iterator[list[str]]:
    """Collect why a connection broke; let everything through that another try cannot mend."""
    reasons: list[str] = []
    try:
        yield reasons
    except HTTPError as error:
        error.close()  # it is the response, too
        text = f"found {error.code} {' '.join(str(error.reason).split())}"
        if error.code < 500 and error.code not in (408, 429):
            raise NotServed(f"{url}: {text}, wanted the file") from error
        reasons.append(text)
    except TimeoutError:
        reasons.append(f"no answer in {TIMEOUT:g} s")
    except (URLError, HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        timed_out = isinstance(reason, TimeoutError)
        reasons.append(f"no answer in {TIMEOUT:g} s" if timed_out else f"no connection ({reason})")


def _receive(url: str, part: Path, label: str) -> None:
    tag_file = part.with_suffix(".tag")
    tag = tag_file.read_text() if tag_file.exists() and part.exists() else ""
    start = part.stat().st_size if tag else 0
    headers = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
    try:
        response = _open(url, headers)
    except HTTPError as error:
        if error.code != 416:  # nothing follows what is there
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return
        part.unlink()
        response = _open(url, {})
    with closing(response):
        if response.headers.get_content_type() == "text/html":
            raise NotServed(f"{url}: found a web page, wanted the file")
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _announce(label, part, start, total)
        with open(part, "r+b" if start else "wb") as handle:
            tag_file.write_text(_tag(response))
            handle.seek(start)
            with progress_bar(total, label, "B") as advance:
                advance(start)
                while chunk := response.read(CHUNK):
                    handle.write(chunk)
                    advance(len(chunk))
            handle.flush()
            os.fsync(handle.fileno())
    if total is not None and part.stat().st_size < total:
        raise ConnectionError("cut")


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    # Packed on the way, a file would have another length, and no part of it could be asked for.
    ours = {"User-Agent": f"cmgems/{__version__}", "Accept-Encoding": "identity"}
    response: HTTPResponse = urlopen(Request(url, headers=ours | headers), timeout=TIMEOUT)
    return response


def _tag(response: HTTPResponse) -> str:
    """What tells one state of a file from another, as `If-Range` takes it; empty for nothing."""
    tag = response.headers.get("ETag", "")
    strong = tag if tag.startswith('"') else ""
    return strong or response.headers.get("Last-Modified", "")


def _announce(label: str, part: Path, start: int, total: int | None) -> None:
    """Say how much comes; refuse it where there is no room."""
    if total is None:
        size = "of unknown size"
    else:
        size = describe_size(total)
        free = disk_usage(part.parent).free
        if total - start > free:
            raise UserError(
                f"{part.parent}: found {describe_size(free)} of room, wanted "
                f"{describe_size(total - start)}; set CMGEMS_CACHE to a folder with room"
            )
    rest = f", {describe_size(start)} are there" if start else ""
    print(f"{label} ({size}{rest})", file=sys.stderr)


def describe_size(size: int) -> str:
    """A number of bytes, to be read.

    >>> describe_size(983_659_424), describe_size(9_199), describe_size(12)
    ('984 MB', '9 kB', '12 B')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            number = size / unit
            return f"{number:.1f} {name}" if unit == 10**9 else f"{number:.0f} {name}"
    return f"{size} B"
