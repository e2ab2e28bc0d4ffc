"""What mkdocs runs while it builds the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Leaves out of the navigation what does not exist, and adds the pages on single RFCs."""
    docs = Path(config["docs_dir"])

    def kept(items: list[Any]) -> list[Any]:
        out = []
        for item in items:
            ((title, where),) = item.items()
            if isinstance(where, list):
                out.append({title: kept(where)})
            elif (docs / where).exists():
                out.append(item)
        return out

    config["nav"] = [
        *kept(config["nav"]),
        {"RFCs": [f"rfc/{page.name}" for page in sorted((docs / "rfc").glob("[0-9]*.md"), key=number)]},
    ]
    return config


def number(page: Path) -> int:
    """Of the RFC."""
    return int(page.stem.split("-")[0])
