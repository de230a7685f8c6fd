"""Pages and drawings from jinja templates: what people and models wrote is escaped.

A document of its own that asks no network extends `page.html`, which stands beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def fill(template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    import jinja2

    folders = [template.parent, Path(__file__).parent]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(**values)
