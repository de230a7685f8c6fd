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
:is(#bq-mode, #bq-count) {{ padding: 0; border: 0; background: transparent; flex: 0 0 auto; width: auto; min-width: 0 !important; }}
:is(#bq-mode, #bq-count) .wrap {{ gap: 6px; flex-wrap: nowrap; }}
:is(#bq-mode, #bq-count) label {{ padding: 5px 12px; border-radius: 999px; white-space: nowrap; font-size: 15px;
  border: 1px solid var(--border-color-primary); box-shadow: none; }}
:is(#bq-mode, #bq-count) label.selected {{ border-color: var(--primary-500); color: var(--primary-700); background: var(--primary-50); }}
.dark :is(#bq-mode, #bq-count) label.selected {{ color: var(--primary-200); background: var(--primary-900); }}
#bq-why {{ flex: 1 1 220px; width: auto; font-size: 14px; line-height: 1.5; color: var(--body-text-color-subdued); }}
#bq-chat {{ flex: 1 1 240px; min-height: 240px; height: auto !important; overflow: hidden; border-radius: 12px;
  border: 1px solid var(--border-color-primary); }}
:is(#bq-chat, .bq-talk) > .wrapper {{ flex: 1 1 0; min-height: 0; height: auto; display: flex; flex-direction: column; }}
:is(#bq-chat, .bq-talk) .bubble-wrap {{ flex: 1 1 0; min-height: 0; height: auto; overflow-y: auto; }}
:is(#bq-chat, .bq-talk) .md.chatbot {{ opacity: 1; }}
:is(#bq-chat, .bq-talk) .message, :is(#bq-chat, .bq-talk) .message .prose {{ font-size: 16px; line-height: 1.8; }}
:is(#bq-chat, .bq-talk) .message .prose p, :is(#bq-chat, .bq-talk) .message .prose li {{ font-size: inherit; color: var(--body-text-color); }}
:is(#bq-chat, .bq-talk) .message .prose li > p {{ margin: 0; }}
:is(#bq-chat, .bq-talk) .message.user {{ background: var(--primary-50); border-color: var(--primary-100); box-shadow: none; }}
.dark :is(#bq-chat, .bq-talk) .message.user {{ background: var(--primary-900); border-color: var(--primary-800); }}
:is(#bq-chat, .bq-talk) .message.bot {{ background: transparent; border-color: transparent; box-shadow: none; }}
#bq-chat .placeholder-content {{ padding: 16px 0 8px; }}
#bq-chat .placeholder-content .prose p {{ text-align: center; padding: 0 16px; color: var(--body-text-color-subdued); font-size: 15px; }}
#bq-chat .examples {{ gap: 8px; max-width: none; width: 100%; grid-template-columns: repeat(3, 1fr); padding: 0 16px 8px; }}
#bq-chat .example {{ background: transparent; padding: 10px 14px; min-height: 0; }}
#bq-chat .example:hover {{ border-color: var(--primary-400); }}
:is(#bq-chat, .bq-talk) .prose p:has(> .bq-who) {{ margin: 0; }}
:is(#bq-chat, .bq-talk) .prose p:has(> .bq-who) + * {{ margin-top: 3px; }}
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
  :is(#bq-chat, .bq-talk) .message-buttons {{ opacity: 0; transition: opacity .15s; }}
  :is(#bq-chat, .bq-talk) :is(.message-row:hover + .message-buttons, .message-row:hover .message-buttons),
  :is(#bq-chat, .bq-talk) .message-buttons:is(:hover, :focus-within) {{ opacity: 1; }}
}}
:is(#bq-box, #bq-all) textarea {{ font-size: 16px !important; line-height: 1.6; }}
:is(#bq-box, #bq-all) {{ scroll-margin-bottom: 48px; }}
:is(#bq-box, #bq-all) textarea:focus-visible {{ outline: none !important; }}
:is(#bq-box, #bq-all):focus-within {{ outline: 2px solid var(--primary-500); outline-offset: 1px; border-radius: 8px; }}
:is(#bq-actions, #bq-exports, .bq-actions) {{ gap: 6px; flex-wrap: wrap; flex: none; }}
:is(#bq-actions, #bq-exports, .bq-actions) button {{ min-width: 0; flex: 0 1 auto; padding: 5px 12px; font-size: 14px; font-weight: 500;
  border: 1px solid var(--border-color-primary); box-shadow: none; }}
:is(#bq-actions, .bq-actions) button:disabled {{ background: transparent; opacity: .55; }}
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
.gradio-container:has(#bq-compare-tab-button[aria-selected=true]) {{ max-width: 1560px !important; }}
#bq-setup {{ gap: 4px 14px; align-items: center; flex-wrap: wrap; flex: none; }}
#bq-seed {{ flex: 0 1 170px; min-width: 0 !important; border: 0; background: none; }}
#bq-seed :is(input, textarea) {{ font-size: 16px; padding: 4px 10px; border: 1px solid var(--border-color-primary); border-radius: 8px; }}
#bq-note {{ flex: 1 1 280px; width: auto; }}
:is(#bq-note, #bq-alert, .bq-told) .html-container {{ padding: 0 !important; }}
#bq-note p {{ margin: 0; font-size: 14px; line-height: 1.5; color: var(--body-text-color-subdued); }}
#bq-alert:not(:has(.bq-notice)) {{ display: none; }}
#bq-sides {{ gap: 12px; flex-wrap: nowrap; overflow-x: auto; scroll-snap-type: x mandatory; align-items: stretch; }}
.bq-side {{ flex: 1 1 0 !important; min-width: 230px !important; gap: 4px; scroll-snap-align: center; }}
.bq-side-head {{ gap: 6px; align-items: center; flex-wrap: nowrap; flex: none; padding: 3px; }}
.bq-side-head::before {{ font-weight: 600; width: 18px; text-align: center; flex: none; color: var(--primary-600); }}
.dark .bq-side-head::before {{ color: var(--primary-300); }}
#bq-side-0 .bq-side-head::before {{ content: "A"; }}
#bq-side-1 .bq-side-head::before {{ content: "B"; }}
#bq-side-2 .bq-side-head::before {{ content: "C"; }}
#bq-side-3 .bq-side-head::before {{ content: "D"; }}
.bq-side-head > .block {{ border: 0; background: none; }}
.bq-side-head > .bq-side-bits {{ flex: 0 0 108px !important; min-width: 0 !important; }}
.bq-side-head .wrap:has(> .wrap-inner) {{ border: 1px solid var(--border-color-primary); border-radius: 8px; box-shadow: none; }}
.bq-side-head .wrap-inner {{ padding: 2px 4px; }}
.bq-side-head input {{ font-size: 16px; text-overflow: ellipsis; margin-right: 14px !important; }}
.bq-side-head .icon-wrap {{ right: 6px; }}
.bq-side-draw {{ flex: none; border: 0; background: none; padding: 0 4px; }}
.bq-side-draw > .label-wrap {{ font-size: 13px; padding: 2px; color: var(--body-text-color-subdued); }}
.bq-side-draw .form {{ border: 0; background: none; display: grid; gap: 4px 8px;
  grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); }}
.bq-side-draw .form > .block {{ padding: 2px 0; background: none; }}
.bq-side-draw label :is(input, textarea) {{ font-size: 16px; padding: 5px 8px; border: 1px solid var(--border-color-primary); }}
.bq-side .bq-talk {{ flex: 1 1 auto; height: max(240px, calc(100dvh - 406px)) !important; overflow: hidden; border-radius: 12px;
  border: 1px solid var(--border-color-primary); }}
.bq-talk .message-row {{ margin: 8px 10px 2px; }}
.bq-talk .top-panel {{ display: none; }}
.bq-talk .prose :is(h1, h2, h3, h4, h5, h6) {{ font-size: 16px; margin: 8px 0; }}
.bq-talk .placeholder-content .prose p {{ text-align: center; padding: 16px; color: var(--body-text-color-subdued); font-size: 14px; }}
.bq-told {{ flex: none; min-height: 22px; }}
.bq-told p {{ display: flex; flex-wrap: wrap; gap: 1px 10px; align-items: baseline; margin: 0; font-size: 13px; line-height: 1.6;
  color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }}
.bq-badge {{ font-weight: 600; padding: 0 7px; line-height: 1.4; border-radius: 999px; border: 1px solid currentColor; }}
.bq-badge.bq-asks {{ color: var(--primary-600); }}
.dark .bq-badge.bq-asks {{ color: var(--primary-300); }}
#bq-all {{ flex: none; }}
#bq-link {{ flex: none; scroll-margin-bottom: 48px; }}
#bq-link input {{ font-size: 16px; }}
.gradio-container:has(#bq-evaluate-tab-button[aria-selected=true]) {{ max-width: 1180px !important; }}
#bq-eval-why p, #bq-eval-note p, #bq-eval-bar p, #bq-eval-preview > div > p {{ margin: 0; font-size: 14px; line-height: 1.6;
  color: var(--body-text-color-subdued); }}
:is(#bq-eval-why, #bq-eval-note, #bq-eval-bar, #bq-eval-preview, #bq-eval-figures, #bq-eval-report) .html-container {{ padding: 0 !important; }}
:is(#bq-eval-note, #bq-eval-bar, #bq-eval-preview, #bq-eval-figures, #bq-eval-report):not(:has(.html-container *)) {{ display: none; }}
#bq-eval-file {{ flex: none; }}
#bq-eval-file .wrap {{ font-size: 14px; line-height: 1.5; padding-top: 18px; }}
#bq-eval-preview .bq-eval-facts {{ font-size: 15px; color: var(--body-text-color); font-weight: 600; }}
:is(#bq-eval-preview, #bq-eval-figures) details {{ margin: 6px 0; padding: 8px 14px; border-radius: 8px;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }}
:is(#bq-eval-preview, #bq-eval-figures) summary {{ cursor: pointer; font-size: 14px; color: var(--body-text-color-subdued); }}
#bq-eval-preview details[open] {{ max-height: 300px; overflow-y: auto; }}
#bq-eval-preview section {{ margin: 8px 0 12px; }}
#bq-eval-preview h4, #bq-eval-figures h3 {{ margin: 10px 0 4px; font-size: 14px; font-weight: 600; }}
#bq-eval-figures h3 {{ font-size: 15px; }}
#bq-eval-preview section p {{ margin: 2px 0; font-size: 15px; line-height: 1.7; overflow-wrap: anywhere; }}
#bq-eval-preview section b {{ color: var(--primary-600); font-weight: 600; margin-right: 4px; }}
.dark #bq-eval-preview section b {{ color: var(--primary-300); }}
.bq-box {{ overflow: auto; max-height: 420px; margin: 6px 0; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--block-background-fill); }}
.bq-box table {{ width: 100%; margin: 0; border: 0 !important; border-collapse: collapse; font-size: 14px; line-height: 1.5; font-variant-numeric: tabular-nums; }}
.bq-box :is(th, td) {{ padding: 5px 12px; text-align: left; vertical-align: top; border: 0; border-bottom: 1px solid var(--border-color-primary); }}
.bq-box :is(thead, tbody, tr) {{ border: 0 !important; }}
.bq-box td {{ min-width: 8em; }}
.bq-box tbody tr:last-child :is(th, td) {{ border-bottom: 0; }}
.bq-box th {{ font-weight: 500; white-space: nowrap; }}
.bq-box thead th {{ position: sticky; top: 0; font-weight: 600; white-space: nowrap; background: var(--block-background-fill);
  box-shadow: 0 1px var(--border-color-primary); }}
#bq-eval-figures :is(td, thead th:not(:first-child)) {{ text-align: right; white-space: nowrap; min-width: 0; }}
#bq-eval-figures tbody th {{ position: sticky; left: 0; background: var(--block-background-fill); }}
#bq-eval-figures dl {{ margin: 8px 0 0; font-size: 14px; line-height: 1.6; }}
#bq-eval-figures dt {{ font-weight: 600; }}
#bq-eval-figures dd {{ margin: 0 0 6px; color: var(--body-text-color-subdued); }}
.bq-eval-form {{ flex: none; }}
.bq-eval-form .form {{ gap: 4px 16px; padding: 6px 12px 10px; background: var(--block-background-fill); }}
.bq-eval-form .form > .block {{ padding: 4px 0; background: none; }}
.bq-eval-form label > .input-container > :is(input, textarea), .bq-eval-form .wrap:has(> .wrap-inner) {{ border: 1px solid var(--border-color-primary);
  border-radius: 8px; box-shadow: none; }}
.bq-eval-form label > .input-container > :is(input, textarea) {{ padding: 5px 10px; }}
.bq-eval-form .wrap-inner {{ padding: 3px 6px; }}
.bq-eval-form .block :is(input, textarea):not([type=checkbox]) {{ font-size: 16px; }}
#bq-eval-start:not(:disabled) {{ border-color: var(--primary-600); }}
#bq-eval-start:disabled {{ color: var(--body-text-color-subdued); }}
#bq-eval-bar progress {{ display: block; width: 100%; height: 8px; margin: 2px 0 4px; appearance: none; border: 0; border-radius: 999px;
  overflow: hidden; background: var(--border-color-primary); }}
#bq-eval-bar progress::-webkit-progress-bar {{ background: var(--border-color-primary); }}
#bq-eval-bar progress::-webkit-progress-value {{ background: var(--primary-500); transition: width .2s; }}
#bq-eval-bar progress::-moz-progress-bar {{ background: var(--primary-500); }}
#bq-eval-bar p {{ font-variant-numeric: tabular-nums; }}
#bq-eval-report a {{ font-size: 14px; color: var(--primary-600) !important; }}
.dark #bq-eval-report a {{ color: var(--primary-300) !important; }}
#bq-eval-report p {{ margin: 0 0 6px; }}
#bq-eval-report iframe {{ display: block; width: 100%; height: max(480px, 82dvh); border: 1px solid var(--border-color-primary);
  border-radius: 12px; }}
#bq-duel-line {{ gap: 4px 12px; align-items: center; flex-wrap: nowrap; flex: none; }}
.gradio-container:has(#bq-arena-tab-button[aria-selected=true]) {{ max-width: 1280px !important; }}
:is(#bq-duel-note, #bq-duel-alert, #bq-board, .bq-side) .html-container {{ padding: 0 !important; }}
#bq-duel-note {{ flex: 1 1 200px; }}
#bq-duel-note p {{ margin: 0; font-size: 14px; line-height: 1.5; color: var(--body-text-color-subdued); }}
#bq-duel-alert:not(:has(.bq-notice)) {{ display: none; }}
#bq-ring {{ gap: 12px; flex-wrap: nowrap; overflow-x: auto; scroll-snap-type: x mandatory; align-items: stretch; flex: none; }}
#bq-ring .bq-talk {{ height: max(220px, calc(100dvh - 312px)) !important; }}
.gradio-container:has(#bq-vote) #bq-ring .bq-talk {{ height: max(220px, calc(100dvh - 462px)) !important; }}
.bq-corner {{ display: flex; flex-wrap: wrap; gap: 0 10px; align-items: baseline; margin: 0; padding: 2px 4px; font-size: 15px;
  color: var(--body-text-color); }}
.bq-corner b:first-child {{ color: var(--primary-600); }}
.dark .bq-corner b:first-child {{ color: var(--primary-300); }}
.bq-corner span {{ flex: 1 0 100%; font-size: 13px; color: var(--body-text-color-subdued); }}
#bq-vote {{ gap: 6px; flex: none; }}
#bq-why-so {{ gap: 6px 12px; align-items: center; flex-wrap: wrap; }}
:is(#bq-category, #bq-board-category) {{ flex: 0 0 236px; margin: 0 !important; border: 0; background: none; }}
:is(#bq-category, #bq-board-category) .wrap:has(> .wrap-inner) {{ border: 1px solid var(--border-color-primary); border-radius: 8px;
  box-shadow: none; }}
:is(#bq-category, #bq-board-category) .wrap-inner {{ padding: 2px 6px; }}
:is(#bq-category, #bq-board-category) input {{ font-size: 16px; text-overflow: ellipsis; margin-right: 14px !important; }}
#bq-ring .bq-told:not(:has(p)) {{ display: none; }}
#bq-reasons {{ padding: 0; border: 0; background: none; flex: 1 1 300px; }}
#bq-reasons .wrap {{ gap: 6px; }}
#bq-reasons label {{ padding: 4px 10px; border-radius: 999px; font-size: 14px; border: 1px solid var(--border-color-primary);
  background: transparent; box-shadow: none; }}
#bq-reasons label.selected {{ border-color: var(--primary-500); color: var(--primary-700); background: var(--primary-50); }}
.dark #bq-reasons label.selected {{ color: var(--primary-200); background: var(--primary-900); }}
#bq-verdicts {{ gap: 8px; display: grid; grid-template-columns: repeat(4, 1fr); }}
#bq-verdicts button {{ min-width: 0 !important; padding: 8px; font-size: 15px; font-weight: 500; box-shadow: none;
  border: 1px solid var(--primary-500); }}
#bq-verdicts button:disabled {{ border-color: var(--border-color-primary); opacity: .55; }}
#bq-verdicts button.primary:disabled {{ opacity: 1; }}
#bq-next {{ flex: 0 0 auto; min-width: 0; padding: 5px 12px; font-size: 14px; font-weight: 500; box-shadow: none;
  border: 1px solid var(--border-color-primary); }}
#bq-both {{ flex: none; }}
#bq-both textarea {{ font-size: 16px !important; line-height: 1.6; }}
#bq-both {{ scroll-margin-bottom: 48px; }}
#bq-both textarea:focus-visible {{ outline: none !important; }}
#bq-both:focus-within {{ outline: 2px solid var(--primary-500); outline-offset: 1px; border-radius: 8px; }}
#bq-consent {{ padding: 2px 4px; border: 0; background: none; }}
#bq-consent label {{ font-size: 14px; }}
#bq-board-fold {{ flex: none; padding: 8px 12px; }}
#bq-board-fold > .label-wrap {{ font-size: 15px; }}
#bq-board-line {{ gap: 6px 8px; align-items: center; flex-wrap: wrap; flex: none; }}
#bq-board-line button {{ flex: 0 1 auto; min-width: 0; padding: 6px 12px; font-size: 14px; font-weight: 500; box-shadow: none;
  border: 1px solid var(--border-color-primary); }}
#bq-board {{ font-size: 15px; }}
.bq-empty {{ padding: 32px 16px; text-align: center; color: var(--body-text-color-subdued); }}
.bq-small {{ margin: 6px 0; font-size: 13px; line-height: 1.6; color: var(--body-text-color-subdued); }}
.bq-scroll {{ overflow-x: auto; margin: 8px 0 14px; }}
#bq-board table {{ width: auto; min-width: min(100%, 640px); border: 0; border-collapse: collapse; font-variant-numeric: tabular-nums; }}
#bq-board caption {{ text-align: left; font-weight: 600; padding: 4px 0; }}
#bq-board tr {{ border: 0; background: none; }}
#bq-board :is(th, td) {{ padding: 6px 10px; border: 0; border-bottom: 1px solid var(--border-color-primary); text-align: left;
  white-space: nowrap; font-size: 14px; color: var(--body-text-color); }}
#bq-board th {{ font-weight: 500; font-size: 13px; color: var(--body-text-color-subdued); }}
#bq-board :is(th, td).bq-number {{ text-align: right; }}
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
  :is(#bq-actions, .bq-actions) button {{ padding: 4px 10px; }}
  #bq-sides {{ margin: 0 -10px; padding: 0 10px; scroll-padding: 0 10px; width: auto; }}
  .bq-side {{ flex: 0 0 88% !important; }}
  .bq-side .bq-talk {{ height: max(240px, calc(100dvh - 540px)) !important; }}
  #bq-count .wrap {{ gap: 4px; }}
  #bq-count label {{ padding: 5px 10px; font-size: 14px; }}
  #bq-count label:not(:focus-within) input {{ position: absolute; opacity: 0; }}
  #bq-count label span {{ margin: 0; }}
  #bq-seed {{ flex: 1 1 90px; }}
  #bq-note {{ flex-basis: 100%; }}
  #bq-note p {{ font-size: 13px; }}
  #bq-ring {{ margin: 0 -10px; padding: 0 10px; scroll-padding: 0 10px; width: auto; }}
  #bq-ring .bq-talk {{ height: max(240px, calc(100dvh - 344px)) !important; }}
  .gradio-container:has(#bq-vote) #bq-ring .bq-talk {{ height: max(240px, calc(100dvh - 520px)) !important; }}
  #bq-verdicts {{ grid-template-columns: 1fr 1fr; }}
  #bq-board-line button {{ flex: 1 1 auto; }}
  #bq-duel-note p {{ font-size: 13px; }}
  #bq-foot p {{ font-size: 12px; }}
}}
"""
