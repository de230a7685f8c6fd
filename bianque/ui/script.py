"""What the page does in the browser beyond Gradio: names for icon buttons, plain copies, a file to save."""

from __future__ import annotations

import json

from bianque.ui.i18n import LANGS, WORDS

NAMES = {"copy": "Copy message", "copy_all": "Copy conversation"}  # Gradio leaves these in English

# Gradio draws its buttons anew as it goes, so they are named as they come. Messages are escaped Markdown with a line of
# HTML above: what is copied or edited is the text that is seen.
LOAD = """
() => {
  const words = __WORDS__, named = __NAMES__;
  const table = () => {
    const lang = document.documentElement.lang || navigator.language;
    return words[lang] || words[lang === 'zh-HK' ? 'zh-TW' : lang.slice(0, 2)] || words['zh-CN'];
  };
  const plain = text => new DOMParser().parseFromString('<pre>\\n' + text + '</pre>', 'text/html').body.textContent;
  const label = (selector, text) => document.querySelectorAll(selector).forEach(each => {
    if (each.getAttribute('aria-label') !== text) each.setAttribute('aria-label', text);
  });
  const tidy = () => {
    const say = table();
    label('#bq-box .submit-button', say.send);
    label('#bq-box .stop-button', say.stop);
    for (const key in named) label(`#bq-chat button[aria-label="${named[key]}"]`, say[key]);
    label('#bq-chat [role=log]', say.chat);
    document.querySelectorAll('#bq-chat [data-testid][aria-label*="<"], #bq-chat [data-testid][aria-label*="&"]').forEach(
      each => each.removeAttribute('aria-label'));  // markup, read aloud; the text below says the same
    document.querySelectorAll('#bq-chat textarea:not([data-plain])').forEach(area => {
      area.dataset.plain = '1';
      if (area.value.includes('&')) { area.value = plain(area.value); area.dispatchEvent(new Event('input')); }
    });
  };
  let due = 0;
  const soon = () => { due ||= requestAnimationFrame(() => { due = 0; tidy(); }); };
  tidy();
  new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  const clipboard = navigator.clipboard;
  if (clipboard) {
    const write = clipboard.writeText.bind(clipboard);
    clipboard.writeText = text => write(plain(text));
  }
}
"""

SAVE = """(text, name) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/plain;charset=utf-8' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


def load() -> str:
    keys = ("send", "stop", "chat", *NAMES)
    words = {lang: {key: WORDS[key][i] for key in keys} for i, lang in enumerate(LANGS)}
    return LOAD.replace("__WORDS__", json.dumps(words, ensure_ascii=False)).replace("__NAMES__", json.dumps(NAMES))
