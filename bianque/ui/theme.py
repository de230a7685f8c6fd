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
    c50="#faf8f3", c100="#f3f0e8", c200="#e5e0d4", c300="#cfc8b8", c400="#a59d8c", c500="#7c7566", c600="#5f594d",
    c700="#48433a", c800="#2b2823", c900="#1d1b18", c950="#141311",
)  # fmt: skip

# The asking model's mark is a brush that leaves a question; the advising model's is a gourd, the old sign of medicine.
MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{ink}" stroke-width="1.7" '
    'stroke-linecap="round" stroke-linejoin="round">{path}</svg>'
)
BRUSH = '<path d="M8 8.2c.3-2.4 2-3.7 4.2-3.7 2.4 0 4.1 1.5 4.1 3.6 0 3.2-4.2 3.4-4.2 6.6"/><circle cx="12.1" cy="18.7" r=".9" fill="{ink}"/>'
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
        layout_gap="10px", block_shadow="none", button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600", button_primary_text_color="#ffffff",
        button_secondary_background_fill="#fffdf8", button_secondary_background_fill_dark="*neutral_900",
        button_secondary_border_color="*neutral_200", button_secondary_border_color_dark="*neutral_700",
        input_background_fill="#fffdf8", input_background_fill_dark="*neutral_900",
        block_label_text_color="*neutral_600", block_label_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
    )  # fmt: skip


CSS = f"""
.gradio-container {{ max-width: 880px !important; margin: 0 auto !important; padding: 0 16px 40px !important; }}
.gradio-container .main, .gradio-container main, .gradio-container .wrap.app, .fillable {{ padding: 0 !important; }}
body {{ background: var(--body-background-fill) !important; }}
.tabitem {{ padding: 8px 0 0 !important; }}
.tab-container {{ height: 36px !important; }}
#bq-head {{ display: flex; align-items: center; gap: 12px; padding: 12px 0 0; }}
#bq-head .name {{ font-size: 23px; font-weight: 600; letter-spacing: .16em; line-height: 1.2; white-space: nowrap; margin: 0;
  color: var(--body-text-color); }}
#bq-head .seal {{ width: 32px; height: 32px; flex: none; border-radius: 8px;
  background: var(--primary-600) {mark(GOURD, "#ffffff")} center/23px no-repeat; }}
#bq-head .running {{ margin-left: auto; text-align: right; font-size: 13px; line-height: 1.45;
  color: var(--body-text-color-subdued); }}
#bq-head .running b {{ font-weight: 600; color: var(--primary-600); }}
.dark #bq-head .running b {{ color: var(--primary-300); }}
#bq-mode-line {{ gap: 4px 14px; align-items: center; flex-wrap: wrap; }}
#bq-mode {{ padding: 0; border: 0; background: transparent; flex: 0 0 auto; min-width: 0 !important; }}
#bq-mode .wrap {{ gap: 8px; flex-wrap: nowrap; }}
#bq-mode label {{ padding: 5px 13px; border-radius: 999px; white-space: nowrap; font-size: 15px; }}
#bq-mode label.selected {{ border-color: var(--primary-500); color: var(--primary-700); }}
.dark #bq-mode label.selected {{ color: var(--primary-200); }}
#bq-why {{ flex: 1 1 220px; font-size: 14px; line-height: 1.5; color: var(--body-text-color-subdued); }}
#bq-chat {{ height: calc(100dvh - 356px) !important; min-height: 240px; border: 1px solid var(--border-color-primary);
  border-radius: 12px; }}
#bq-chat .message, #bq-chat .message .prose {{ font-size: 16px; line-height: 1.8; }}
#bq-chat .message .prose p, #bq-chat .message .prose li {{ font-size: inherit; color: var(--body-text-color); }}
#bq-chat .message.user {{ background: var(--primary-50); border-color: var(--primary-100); box-shadow: none; }}
.dark #bq-chat .message.user {{ background: var(--primary-900); border-color: var(--primary-800); }}
#bq-chat .message.bot {{ background: transparent; border-color: transparent; box-shadow: none; }}
#bq-chat .placeholder-content .prose p {{ color: var(--body-text-color-subdued); }}
#bq-chat .example {{ background: transparent; }}
.bq-who {{ display: block; font-size: 13px; color: var(--body-text-color-subdued); padding-left: 26px; min-height: 21px;
  line-height: 21px; background: left center/20px 20px no-repeat; }}
.bq-asking {{ background-image: {mark(BRUSH, "#22694f")}; }}
.bq-advising {{ background-image: {mark(GOURD, "#22694f")}; }}
.dark .bq-asking {{ background-image: {mark(BRUSH, "#82bda3")}; }}
.dark .bq-advising {{ background-image: {mark(GOURD, "#82bda3")}; }}
.bq-handed {{ display: block; font-size: 13px; line-height: 1.6; color: var(--body-text-color-subdued);
  border-left: 2px solid var(--primary-300); padding-left: 10px; }}
.bq-status {{ font-size: 14px; color: var(--body-text-color-subdued); }}
.bq-notice {{ display: block; padding: 10px 14px; border-radius: 8px; border-left: 4px solid #b3402f; background: #fbeae6;
  color: #5c1d12; }}
.dark .bq-notice {{ background: #3a1a14; color: #f6d9d2; }}
.bq-history {{ border-left-color: var(--neutral-400); background: var(--neutral-100); color: var(--neutral-700);
  font-size: 14px; }}
.dark .bq-history {{ background: var(--neutral-800); color: var(--neutral-200); }}
#bq-box textarea {{ font-size: 16px !important; line-height: 1.6; }}
#bq-box textarea:focus-visible {{ outline: none !important; }}
#bq-box:focus-within {{ outline: 2px solid var(--primary-500); outline-offset: 1px; border-radius: 8px; }}
#bq-actions {{ gap: 8px; flex-wrap: wrap; }}
#bq-actions button {{ min-width: 0; flex: 0 1 auto; padding: 5px 12px; font-size: 14px; font-weight: 500; }}
#bq-foot {{ position: fixed; left: 0; right: 0; bottom: 0; z-index: 20; text-align: center; font-size: 13px; line-height: 1.5;
  color: var(--body-text-color-subdued); background: var(--body-background-fill);
  border-top: 1px solid var(--border-color-primary); padding: 5px 12px; }}
#bq-about {{ line-height: 1.85; overflow-x: auto; }}
#bq-about table {{ font-size: 14px; }}
:focus-visible {{ outline: 2px solid var(--primary-500) !important; outline-offset: 2px; }}
@media (max-width: 640px) {{
  .gradio-container {{ padding: 0 10px 52px !important; }}
  #bq-head .name {{ font-size: 20px; }}
  #bq-head .running {{ font-size: 12px; }}
  #bq-chat {{ height: calc(100dvh - 396px) !important; }}
  #bq-actions button {{ padding: 4px 10px; font-size: 13px; }}
  #bq-foot {{ font-size: 12px; }}
}}
"""

# Gradio gives its icon buttons no names; they come and go, so they are named as they come.
JS = """
() => {
  const words = document.documentElement.lang || navigator.language || 'zh';
  const known = { en: ['Send', 'Stop'], ko: ['보내기', '중지'], 'zh-TW': ['傳送', '停止'], 'zh-HK': ['傳送', '停止'] };
  const say = known[words] || known[words.slice(0, 2)] || ['发送', '停止'];
  const name = () => {
    document.querySelectorAll('#bq-box .submit-button').forEach(b => b.setAttribute('aria-label', say[0]));
    document.querySelectorAll('#bq-box .stop-button').forEach(b => b.setAttribute('aria-label', say[1]));
  };
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
}
"""
