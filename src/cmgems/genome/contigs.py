"""The contigs of a genome that is being read: names, lengths, counts and checksums."""

from dataclasses import dataclass, field
from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome.checksum import CodesHash
from cmgems.genome.formats.base import Segment, SequenceChunk, describe_location
from cmgems.genome.store import ContigEntry


@dataclass
class _OpenContig:
    """A contig whose end has not been read yet."""

    name: str
    length: int = 0
    n_count: int = 0
    iupac_count: int = 0
    checksum: CodesHash = field(default_factory=CodesHash)


class ContigList:
    """Collects the contigs of a manifest from the chunks of the sources, in their order."""

    def __init__(self) -> None:
        self._entries: list[ContigEntry] = []
        self._locations: dict[str, tuple[Path, int | str]] = {}  # name -> source, location
        self._open: _OpenContig | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no contig has begun yet."""
        return not self._locations

    def add(self, source: Path, chunk: SequenceChunk) -> None:
        """Add the segments of a chunk."""
        for segment in chunk.segments:
            contig = self._open
            if segment.name is not None:
                contig = self._begin(source, segment.name, segment)
            if contig is None:
                raise ValueError("the first segment of a source has no name")
            contig.length += segment.stop - segment.start
            contig.n_count += segment.n_count
            contig.iupac_count += segment.iupac_count
            contig.checksum.update(chunk.codes[segment.start : segment.stop])

    def close(self) -> None:
        """The contig that is open ends here."""
        contig, self._open = self._open, None
        if contig is None:
            return
        if contig.length == 0:
            location = self._location(contig.name)
            raise UserError(f"{location}: contig {contig.name!r} has no sequence")
        self._entries.append(
            {
                "name": contig.name,
                "length": contig.length,
                "n_count": contig.n_count,
                "iupac_count": contig.iupac_count,
                "sha256": contig.checksum.hexdigest(),
            }
        )

    def finish(self) -> list[ContigEntry]:
        """The entries of the manifest; refused if they do not look like a genome."""
        bases = sum(entry["length"] for entry in self._entries)
        iupac = sum(entry["iupac_count"] for entry in self._entries)
        n = sum(entry["n_count"] for entry in self._entries) - iupac
        source = next(iter(self._locations.values()))[0]
        if n == bases:
            raise UserError(f"{source}: has no A, C, G or T: all of its {bases:,} bases are N")
        if 2 * iupac > bases - n:
            raise UserError(
                f"{source}: {iupac:,} of {bases:,} letters are IUPAC codes other than A C G T U N;"
                " is this a protein? wanted: nucleotides"
            )
        return self._entries

    def _location(self, name: str) -> str:
        source, location = self._locations[name]
        return f"{source}: {describe_location(source, location)}"

    def _begin(self, source: Path, name: str, segment: Segment) -> _OpenContig:
        self.close()
        if name in self._locations:
            raise UserError(
                f"{source}: {describe_location(source, segment.location)}: contig {name!r} is"
                f" listed twice, first at {self._location(name)}; wanted: names that differ"
            )
        self._locations[name] = source, segment.location
        self._open = _OpenContig(name)
        return self._open
