"""A column's parts, without a browser."""

from __future__ import annotations

import gradio as gr
import pytest

from bianque.ui.choice import Choice


def test_a_choice_is_known_by_its_label_too():
    choice = Choice([("自动", "auto"), ("只提问", "ask")], value="auto")
    assert choice.preprocess("auto") == choice.preprocess("自动") == "auto"
    assert choice.get_block_name() == "dropdown"
    with pytest.raises(gr.Error, match="别的"):
        choice.preprocess("别的")
