"""The state diagram of the documents is the table that the code asks."""

from __future__ import annotations

from pathlib import Path

from netstack.tcp.states import TRANSITIONS, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tcp-states.md"


def test_the_page_is_made_from_the_table() -> None:
    """To write it anew: ``python -c "from netstack.tcp.states import page; print(page(), end='')"``."""
    assert PAGE.read_text() == page()


def test_every_transition_is_drawn() -> None:
    text = PAGE.read_text()
    for source, target, reason in TRANSITIONS:
        assert f"| {source} | {target} | {reason} |" in text
        assert f"{source.replace('-', '_')} --> {target.replace('-', '_')}: " in text
