"""docs/troubleshooting.md explains messages that exist."""

import re

import pytest
from helpers.paths import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()


@pytest.fixture(scope="module")
def source():
    """The code as one text, with strings that go on in the next line joined."""
    folders = ("src/cmgems", "data_modules", "callbacks")
    texts = [path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts))


@pytest.mark.parametrize("message", re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE))
def test_messages_are_those_of_the_code(message, source):
    missing = [part for part in message.split("...") if part.strip() not in source]
    assert missing == []
