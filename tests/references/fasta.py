"""A slow, obvious reader of FASTA, 2bit and their refusals, to check the fast ones against."""

import struct

CODES = {"A": 0, "T": 1, "U": 1, "C": 2, "G": 3}
AMBIGUOUS = "NRYSWKMBDHV"


class Refused(Exception):
    """The bytes are not a genome."""


def reference_fasta(data: bytes) -> list[tuple[str, list[int]]]:
    """Names and base codes of the contigs of a FASTA file, or Refused."""
    contigs: list[tuple[str, list[int]]] = []
    letters: list[str] = []
    for line in data.split(b"\n"):
        line = line.removesuffix(b"\r")
        if line.startswith(b">"):
            contigs.append((_name(line[1:]), []))
            continue
        if line and not contigs:
            raise Refused("no header")
        for byte in line:
            letter = chr(byte).upper() if byte < 128 else "?"
            if letter not in CODES and letter not in AMBIGUOUS:
                raise Refused(f"byte {byte}")
            letters.append(letter)
            contigs[-1][1].append(CODES.get(letter, 4))
    _refuse_oddities(contigs, letters)
    return contigs


def _name(header: bytes) -> str:
    if not header.split() or header[:1].isspace():
        raise Refused("no name")
    try:
        name = header.split()[0].decode()
    except UnicodeDecodeError as error:
        raise Refused("name") from error
    if not name.isprintable() or "\ufffd" in name:
        raise Refused("name")
    return name


def _refuse_oddities(contigs: list[tuple[str, list[int]]], letters: list[str]) -> None:
    names = [name for name, _ in contigs]
    if not contigs or len(set(names)) < len(names) or not all(codes for _, codes in contigs):
        raise Refused("no contigs, names twice, or a contig without sequence")
    iupac = sum(letter in AMBIGUOUS[1:] for letter in letters)
    n = letters.count("N")
    if n == len(letters) or 2 * iupac > len(letters) - n:
        raise Refused("all N, or protein")


def reference_twobit(data: bytes) -> list[tuple[str, list[int]]]:
    """Names and base codes of a 2bit file that is in order; struct.error or IndexError if not."""
    order = {b"\x43\x27\x41\x1a": "<", b"\x1a\x41\x27\x43": ">"}[data[:4]]
    _, version, count, _ = struct.unpack_from(f"{order}4I", data)
    assert version == 0
    contigs, at = [], 16
    for _ in range(count):
        length = data[at]
        name = data[at + 1 : at + 1 + length].decode()
        (offset,) = struct.unpack_from(f"{order}I", data, at + 1 + length)
        contigs.append((name, _sequence(data, order, offset)))
        at += 5 + length
    return contigs


def _sequence(data: bytes, order: str, at: int) -> list[int]:
    def integers(count: int) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from(f"{order}{count}I", data, at)
        at += 4 * count
        return values

    (size,) = integers(1)
    blocks = []
    for _ in ("N", "mask"):
        (count,) = integers(1)
        blocks.append(list(zip(integers(count), integers(count), strict=True)))
    integers(1)
    codes = []
    for i in range(size):
        pair = data[at + i // 4] >> (6 - 2 * (i % 4)) & 3
        codes.append(CODES["TCAG"[pair]])
    for start, length in blocks[0]:
        codes[start : start + length] = [4] * length
    return codes


def twobit_bytes(
    contigs: list[tuple[str, list[int]]], order: str = "<", lower: list[list[bool]] | None = None
) -> bytes:
    """A 2bit file with N blocks, to be read back; `lower`: the bases in mask blocks, or all."""
    head = struct.pack(f"{order}4I", 0x1A412743, 0, len(contigs), 0)
    at = len(head) + sum(5 + len(name.encode()) for name, _ in contigs)
    index, bodies = b"", b""
    for number, (name, codes) in enumerate(contigs):
        index += bytes([len(name.encode())]) + name.encode()
        index += struct.pack(f"{order}I", at + len(bodies))
        masked = lower[number] if lower else [True] * len(codes)
        bodies += _twobit_sequence(codes, order, masked)
    return head + index + bodies


def _twobit_sequence(codes: list[int], order: str, masked: list[bool]) -> bytes:
    body = struct.pack(f"{order}I", len(codes))
    for marked in ([code == 4 for code in codes], masked):
        runs: list[list[int]] = []
        for i in (i for i, is_marked in enumerate(marked) if is_marked):
            if runs and sum(runs[-1]) == i:
                runs[-1][1] += 1
            else:
                runs.append([i, 1])
        body += struct.pack(f"{order}I", len(runs))
        body += struct.pack(f"{order}{len(runs)}I", *(start for start, _ in runs))
        body += struct.pack(f"{order}{len(runs)}I", *(length for _, length in runs))
    body += bytes(4)
    digits = [[2, 0, 1, 3, 0][code] for code in codes] + [0] * (-len(codes) % 4)
    packed = zip(*(digits[i::4] for i in range(4)), strict=True)
    return body + bytes(a << 6 | b << 4 | c << 2 | d for a, b, c, d in packed)
