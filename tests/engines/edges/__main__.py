"""Writes docs/edge-cases.md."""

from pathlib import Path

from tests.engines.edges import markdown

PAGE = Path(__file__).resolve().parents[3] / "docs" / "edge-cases.md"

if __name__ == "__main__":
    PAGE.write_text(markdown(), "utf-8")
