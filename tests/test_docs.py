"""Documentation that can be checked is checked: pages, targets, files, corpora and links exist."""

import re
import subprocess
from pathlib import Path

import pytest

from lib import corpora, corpora_public

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("data/**/*.md")])


def tree() -> list[str]:
    """Paths of the README's tree: two spaces of indent per level, a comment after the name."""
    block = README.split("```text\n")[1].split("```")[0]
    folders: list[str] = []
    found = []
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth]
        found.append("".join(folders) + name)
        if name.endswith("/"):
            folders.append(name)
    return found


@pytest.mark.parametrize("page", sorted((ROOT / "pages").glob("*.py")), ids=lambda p: p.stem)
def test_every_page_is_in_the_readme(page):
    assert f"`{page.stem}`" in README


def test_every_target_of_make_help_is_in_the_readme():
    out = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    targets = [line.split()[0] for line in out.stdout.splitlines() if "Options:" not in line]
    assert "run" in targets
    assert [t for t in targets if f"`make {t}`" not in README] == []


def test_the_tree_names_what_exists():
    missing = [path for path in tree() if not (ROOT / path).exists()]
    assert missing == []


def test_the_tree_names_every_module():
    """Folders of the tree end in `/`; a file is covered by its own line."""
    named = set(tree())
    wanted = [ROOT / "app.py", *ROOT.glob("pages/*.py"), *ROOT.glob("lib/**/*.py")]
    paths = {p.relative_to(ROOT).as_posix() for p in wanted if p.read_text(encoding="utf-8")}
    assert sorted(paths - named) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document):
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [t for t in targets if not (document.parent / t).exists()] == []


def test_every_corpus_is_described():
    ours = (ROOT / "data" / "corpora" / "README.md").read_text(encoding="utf-8")
    names = [*corpora.OWN, *corpora_public.SOURCES]
    assert [name for name in names if f"`{name}`" not in ours] == []


def test_corpus_sizes_in_its_readme_are_the_true_ones():
    ours = (ROOT / "data" / "corpora" / "README.md").read_text(encoding="utf-8")
    for name in corpora.OWN:
        (line,) = [x for x in ours.splitlines() if x.startswith(f"| `{name}`")]
        count = int(line.split("|")[2].replace(",", ""))
        assert count == len(corpora.load(name).documents), name
