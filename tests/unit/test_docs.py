"""README is one page, and links between the repository's texts lead somewhere. `make docs` checks the site's own."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TEXTS = [
    *REPOSITORY.glob("*.md"),
    *(path for folder in ("docs", "config", "resources") for path in (REPOSITORY / folder).rglob("*.md")),
]
LINK = re.compile(r"\]\(([^()\s]+)\)")


def anchors(path):
    """The anchors that Python-Markdown makes of the headings of a text."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


def test_the_readme_is_one_page():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


@pytest.mark.parametrize("text", TEXTS, ids=[str(path.relative_to(REPOSITORY)) for path in TEXTS])
def test_links_lead_somewhere(text):
    for link in LINK.findall(text.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (text.parent / place).resolve() if place else text
        assert target.exists(), f"{text.name} links to {link}"
        assert target.is_relative_to(REPOSITORY), f"{text.name} links out of the repository: {link}"
        assert not anchor or anchor in anchors(target), (
            f"{text.name} links to {link}, which has no such heading"
        )


@pytest.mark.parametrize("text", TEXTS, ids=[str(path.relative_to(REPOSITORY)) for path in TEXTS])
def test_no_mark_of_a_merge_is_left(text):
    assert not re.findall(r"^(?:<{7}|>{7}) ", text.read_text(encoding="utf-8"), re.MULTILINE)
