"""How the page looks: a quiet consulting room. Paper and ink, one jade accent, system fonts, nothing from elsewhere."""

from __future__ import annotations

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

# The asking model's mark is a brush above the dot of a question; the advising model's a gourd, the old sign of medicine.
MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{ink}" stroke-width="1.7" '
    'stroke-linecap="round" stroke-linejoin="round">{path}</svg>'
)
BRUSH = (
    '<path d="M20.2 3.4 12.6 11M12.6 11l-2-.6c-2.6.4-3.6 2.6-3.4 5.4 2.8.2 5-.8 5.6-3.4z"/>'
    '<path d="M7.2 15.8c1.6-.9 2.6-1.9 3.2-3"/><circle cx="5" cy="20" r="1.1" fill="{ink}"/><path d="M9 20h8.5"/>'
)
GOURD = (
    '<path d="M12 3.2c-.2 1 .4 1.6 0 2.6M12 5.8c2 0 3.2 1.3 3.2 2.9 0 1.1-.6 1.7-.6 2.4 0 .9 2.6 1.8 2.6 5 0 2.9-2.2 4.7-5.2 '
    '4.7s-5.2-1.8-5.2-4.7c0-3.2 2.6-4.1 2.6-5 0-.7-.6-1.3-.6-2.4 0-1.6 1.2-2.9 3.2-2.9z"/><path d="M12.2 13.6v4.6M9.9 15.9h4.6"/>'
)


def mark(path: str, ink: str) -> str:
    """A drawn mark as a CSS url; the page loads no image."""
    return f'url("data:image/svg+xml,{quote(MARK.format(ink=ink, path=path.format(ink=ink)))}")'


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
        button_secondary_border_color="*neutral_200", button_secondary_border_color_dark="*neutral_700",
        input_background_fill="#fffdf8", input_background_fill_dark="*neutral_900",
        input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400",
        block_label_text_color="*neutral_600", block_label_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
    )  # fmt: skip


# The page is one column as high as the window, and the conversation takes what the rest leaves: every box around it
# passes the height on. Where the window is too low, or the panel is open, the page scrolls under its footer line.
CSS = f"""
body {{ background: var(--body-background-fill) !important; }}
.gradio-container {{ width: 100% !important; max-width: 880px !important; margin: 0 auto !important;
  padding: 0 16px !important; min-height: 100dvh !important; overflow: clip visible !important; }}
.gradio-container .main, .gradio-container main, .gradio-container .wrap.app, .fillable {{ padding: 0 !important; }}
.gradio-container :has(#bq-chat) {{ display: flex; flex-direction: column; flex: 1 1 auto; width: 100%; }}
.tabitem {{ padding: 6px 0 0 !important; }}
.tab-container {{ height: 34px !important; }}
.dark .tab-container button.selected {{ color: var(--primary-300); }}
.html-container:has(> * > #bq-head), #bq-why .html-container {{ padding: 0 !important; }}
#bq-head {{ display: flex; flex-wrap: wrap; align-items: center; gap: 2px 12px; padding: 14px 0 4px; }}
#bq-head .seal {{ width: 30px; height: 30px; flex: none; border-radius: 8px;
  background: var(--primary-600) {mark(GOURD, "#ffffff")} center/22px no-repeat; }}
#bq-head .name {{ font-size: 22px; font-weight: 600; letter-spacing: .16em; line-height: 1.2; white-space: nowrap; margin: 0;
  color: var(--body-text-color); }}
#bq-head .running, #bq-head .note {{ font-size: 13px; line-height: 1.45; color: var(--body-text-color-subdued); }}
#bq-head .running {{ margin-left: auto; }}
#bq-head .running b {{ font-weight: 600; color: var(--primary-600); }}
.dark #bq-head .running b {{ color: var(--primary-300); }}
#bq-head .note {{ border-left: 1px solid var(--border-color-primary); padding-left: 12px; }}
#bq-mode-line {{ gap: 4px 14px; align-items: center; flex-wrap: wrap; flex: none; }}
#bq-mode {{ padding: 0; border: 0; background: transparent; flex: 0 0 auto; width: auto; min-width: 0 !important; }}
#bq-mode .wrap {{ gap: 6px; flex-wrap: nowrap; }}
#bq-mode label {{ padding: 5px 12px; border-radius: 999px; white-space: nowrap; font-size: 15px;
  border: 1px solid var(--border-color-primary); box-shadow: none; }}
#bq-mode label.selected {{ border-color: var(--primary-500); color: var(--primary-700); background: var(--primary-50); }}
.dark #bq-mode label.selected {{ color: var(--primary-200); background: var(--primary-900); }}
#bq-why {{ flex: 1 1 220px; width: auto; font-size: 14px; line-height: 1.5; color: var(--body-text-color-subdued); }}
#bq-chat {{ flex: 1 1 240px; min-height: 240px; height: auto !important; overflow: hidden; border-radius: 12px;
  border: 1px solid var(--border-color-primary); }}
#bq-chat > .wrapper {{ flex: 1 1 0; min-height: 0; height: auto; display: flex; flex-direction: column; }}
#bq-chat .bubble-wrap {{ flex: 1 1 0; min-height: 0; height: auto; overflow-y: auto; }}
#bq-chat .md.chatbot {{ opacity: 1; }}
#bq-chat .message, #bq-chat .message .prose {{ font-size: 16px; line-height: 1.8; }}
#bq-chat .message .prose p, #bq-chat .message .prose li {{ font-size: inherit; color: var(--body-text-color); }}
#bq-chat .message .prose li > p {{ margin: 0; }}
#bq-chat .message.user {{ background: var(--primary-50); border-color: var(--primary-100); box-shadow: none; }}
.dark #bq-chat .message.user {{ background: var(--primary-900); border-color: var(--primary-800); }}
#bq-chat .message.bot {{ background: transparent; border-color: transparent; box-shadow: none; }}
#bq-chat .placeholder-content {{ padding: 16px 0 8px; }}
#bq-chat .placeholder-content .prose p {{ text-align: center; padding: 0 16px; color: var(--body-text-color-subdued); font-size: 15px; }}
#bq-chat .examples {{ gap: 8px; max-width: none; width: 100%; grid-template-columns: repeat(3, 1fr); padding: 0 16px 8px; }}
#bq-chat .example {{ background: transparent; padding: 10px 14px; min-height: 0; }}
#bq-chat .example:hover {{ border-color: var(--primary-400); }}
#bq-chat .prose p:has(> .bq-who) {{ margin: 0; }}
#bq-chat .prose p:has(> .bq-who) + * {{ margin-top: 3px; }}
#bq-chat .message-row {{ margin: 10px 16px 2px; }}
#bq-chat .top-panel button:not(:last-child) {{ display: none; }}
.bq-who {{ display: block; font-size: 13px; color: var(--body-text-color-subdued); padding-left: 28px; min-height: 22px;
  line-height: 22px; background: left center/22px 22px no-repeat; }}
.bq-asking {{ background-image: {mark(BRUSH, "#22694f")}; }}
.bq-advising {{ background-image: {mark(GOURD, "#22694f")}; }}
.dark .bq-asking {{ background-image: {mark(BRUSH, "#82bda3")}; }}
.dark .bq-advising {{ background-image: {mark(GOURD, "#82bda3")}; }}
.bq-handed {{ display: block; font-size: 13px; line-height: 1.6; color: var(--body-text-color-subdued);
  border-left: 2px solid var(--primary-300); padding-left: 10px; }}
.bq-status {{ font-size: 14px; color: var(--body-text-color-subdued); }}
.bq-notice {{ display: block; padding: 10px 14px; border-radius: 8px; border-left: 4px solid #b3402f; background: #fbeae6;
  color: #5c1d12; }}
.dark .bq-notice {{ background: #44201a; color: #fbe4de; border-left-color: #e0715f; }}
.bq-history {{ border-left-color: var(--neutral-400); background: var(--neutral-100); color: var(--neutral-700);
  font-size: 14px; }}
.dark .bq-history {{ background: var(--neutral-800); color: var(--neutral-200); border-left-color: var(--neutral-500); }}
@media (hover: hover) {{
  #bq-chat .message-buttons {{ opacity: 0; transition: opacity .15s; }}
  #bq-chat .message-row:hover + .message-buttons, #bq-chat .message-buttons:hover, #bq-chat .message-buttons:focus-within,
  #bq-chat .message-row:hover .message-buttons {{ opacity: 1; }}
}}
#bq-box textarea {{ font-size: 16px !important; line-height: 1.6; }}
#bq-box {{ scroll-margin-bottom: 48px; }}
#bq-box textarea:focus-visible {{ outline: none !important; }}
#bq-box:focus-within {{ outline: 2px solid var(--primary-500); outline-offset: 1px; border-radius: 8px; }}
#bq-actions, #bq-exports {{ gap: 6px; flex-wrap: wrap; flex: none; }}
#bq-actions button, #bq-exports button {{ min-width: 0; flex: 0 1 auto; padding: 5px 12px; font-size: 14px; font-weight: 500;
  border: 1px solid var(--border-color-primary); box-shadow: none; }}
#bq-actions button:disabled {{ background: transparent; opacity: .55; }}
#bq-actions button.bq-now:not(:disabled) {{ border-color: var(--primary-500); color: var(--primary-700); }}
.dark #bq-actions button.bq-now:not(:disabled) {{ color: var(--primary-200); }}
#bq-panel {{ flex: none; padding: 8px 12px; }}
#bq-panel .label-wrap {{ font-size: 14px; color: var(--body-text-color-subdued); }}
#bq-panel .form {{ border: 0; background: none; gap: 4px 12px; }}
#bq-panel .form > .block {{ padding: 4px 0; background: none; }}
#bq-panel input {{ font-size: 16px; }}
#bq-panel .wrap-inner {{ padding: 3px 6px; }}
#bq-panel label input {{ padding: 6px 10px; }}
#bq-panel label input, #bq-panel .wrap:has(> .wrap-inner) {{ border: 1px solid var(--border-color-primary); }}
#bq-default p {{ font-size: 13px; color: var(--body-text-color-subdued); }}
#bq-foot {{ position: sticky; bottom: 0; z-index: 50; text-align: center; padding: 5px 0 6px;
  border-radius: 0; background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary); }}
#bq-foot .html-container {{ padding: 0 !important; }}
#bq-foot p {{ margin: 0; font-size: 13px; line-height: 1.5; text-wrap: balance; color: var(--body-text-color-subdued); }}
:is(#bq-head, #bq-why, #bq-about, #bq-foot):lang(ko) {{ word-break: keep-all; }}
#bq-voice {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
#bq-about {{ line-height: 1.85; font-size: 15px; overflow-wrap: anywhere; }}
#bq-about .prose * {{ color: inherit; }}
#bq-about a {{ color: var(--primary-600) !important; }}
.dark #bq-about a {{ color: var(--primary-300) !important; }}
#bq-about h2 {{ font-size: 16px; margin: 20px 0 6px; }}
#bq-about ul {{ list-style: none; padding: 0; margin: 0; }}
#bq-about li {{ margin: 0; padding: 8px 0; border-top: 1px solid var(--border-color-primary); font-size: 14px; }}
#bq-about li strong {{ font-size: 15px; }}
#bq-about ul:has(code) {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); gap: 0 32px; }}
#bq-about code {{ border: 0; background: none; padding: 0 0 0 4px; font-size: 13px; }}
:focus-visible {{ outline: 2px solid var(--primary-500) !important; outline-offset: 2px; }}
@media (prefers-reduced-motion: reduce) {{
  *, ::before, ::after {{ animation-duration: 1ms !important; animation-iteration-count: 1 !important; transition: none !important; }}
}}
@media (max-width: 640px) {{
  .gradio-container {{ padding: 0 10px !important; }}
  #bq-head .name {{ font-size: 20px; }}
  #bq-head .running, #bq-head .note {{ font-size: 12px; }}
  #bq-head .note {{ flex: 1 0 100%; border: 0; padding: 0; }}
  #bq-mode-line > #bq-why {{ flex-basis: 100%; font-size: 13px; }}
  #bq-chat .examples {{ grid-template-columns: 1fr 1fr; padding: 0 10px 6px; }}
  #bq-actions button {{ padding: 4px 10px; }}
  #bq-foot p {{ font-size: 12px; }}
}}
"""
