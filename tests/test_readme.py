"""The README's code runs as it stands and prints what the README says; links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import recordings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPERS = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "csrc/README.md",
          "csrc/EXPERIMENTS.md")  # fmt: skip


def test_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where talk.wav is
    (tmp_path / "talk.wav").write_bytes(recordings.recording(recordings.NAMES[3]).read_bytes())
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```\n```\n(.*?)```\n", README, flags=re.DOTALL)
    assert len(blocks) == README.count("```python")
    for code, output in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == output


def test_the_setup_is_two_commands_after_its_mark():
    """.ci/run takes them from there."""
    (block,) = re.findall(r"^<!-- setup -->\n\n((?:    .*\n)+)", README, flags=re.MULTILINE)
    first, second = (line.strip() for line in block.splitlines())
    assert first.startswith('pip install ".[demo]" && seq2seq-fast translate "')
    assert second == 'pip install ".[test]" && pytest'


def test_links_lead_somewhere():
    for paper in PAPERS:
        folder = (ROOT / paper).parent
        for path, anchor in re.findall(
            r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", (ROOT / paper).read_text(encoding="utf-8")
        ):
            target = folder / path if path else ROOT / paper
            assert target.exists(), f"{paper}: {path}"
            if anchor:
                assert anchor in anchors(target), f"{paper}: {path}{anchor}"


def anchors(paper: Path) -> set[str]:
    """Of its headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", paper.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
