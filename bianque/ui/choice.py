"""A dropdown of its own kind. Gradio writes a stub, choice.pyi, beside any file that has such a class."""

from __future__ import annotations

from typing import Any

import gradio as gr


class Choice(gr.Dropdown):
    """A dropdown that also takes a choice's label: while its choices change, the browser may send what it shows."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        known: dict[Any, Any] = {label: value for label, value in self.choices}
        return super().preprocess(known.get(payload, payload))
