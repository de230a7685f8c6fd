"""How the page looks: a quiet consulting room. Paper and ink, one jade accent, system fonts, nothing from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

import gradio as gr

FONTS = ["system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "Noto Sans Mono CJK SC", "monospace"]
JADE = gr.themes.Color(
    c50="#eef6f2", c100="#d7eae1", c200="#b1d6c5", c300="#82bda3", c400="#549f80", c500="#2f8063", c600="#22694f",
    c700="#1c5541", c800="#174435", c900="#12372b", c950="#0a2019",
)  # fmt: skip
INK = gr.themes.Color(
    c50="#faf8f3", c100="#f3f0e8", c200="#e5e0d4", c300="#cfc8b8", c400="#a59d8c", c500="#797263", c600="#5f594d",
    c700="#48433a", c800="#2b2823", c900="#1d1b18", c950="#141311",
)  # fmt: skip

ASSETS = Path(__file__).with_name("assets")


@cache
def asset(name: str) -> str:
    """A file of assets/, as it stands there."""
    return (ASSETS / name).read_text(encoding="utf-8").strip()


@cache
def css() -> str:
    """The style sheet. `mark(name, ink)` in it becomes assets/name.svg in that colour: the page loads no image.

    The asking model's mark is a brush above the dot of a question; the advising model's a gourd, the old sign of medicine.
    """
    sheet = asset("page.css") + asset("consult.css")
    return re.sub(r"mark\((\w+), (#\w+)\)", lambda found: mark(found[1], found[2]), sheet)


@cache
def states() -> str:
    """What depends on the window and on the state of the page, each declaration stronger than those of `css`."""
    return asset("first.css") + asset("states.css").replace(";", " !important;")


def mark(name: str, ink: str) -> str:
    drawn = asset(f"{name}.svg").replace("currentColor", ink)
    return f'url("data:image/svg+xml,{quote(drawn)}")'


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=JADE, secondary_hue=JADE, neutral_hue=INK, font=FONTS, font_mono=MONO, text_size="md", radius_size="md",
    ).set(
        body_background_fill="*neutral_50", body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_800", body_text_color_dark="#e9e4d8",
        background_fill_primary="#fffdf8", background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50", background_fill_secondary_dark="*neutral_950",
        block_background_fill="#fffdf8", block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200", block_border_color_dark="*neutral_800",
        border_color_primary="*neutral_200", border_color_primary_dark="*neutral_800",
        layout_gap="8px", block_shadow="none", button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600", button_primary_text_color="#ffffff",
        button_secondary_background_fill="#fffdf8", button_secondary_background_fill_dark="*neutral_900",
        button_secondary_background_fill_hover="*neutral_100", button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_text_color="*neutral_800", button_secondary_text_color_dark="#e9e4d8",
        button_secondary_border_color="*neutral_200", button_secondary_border_color_dark="*neutral_700",
        input_background_fill="#fffdf8", input_background_fill_dark="*neutral_900",
        input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400",
        block_label_text_color="*neutral_600", block_label_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
    )  # fmt: skip
