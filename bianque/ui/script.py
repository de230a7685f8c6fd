"""What the page does in the browser beyond Gradio: names and roles, reading out, plain copies, a file to save."""

from __future__ import annotations

import json

from bianque.i18n import LANGS, WORDS

# What Gradio calls its own buttons, in English everywhere.
NAMES = {"copy": "Copy message", "copy_all": "Copy conversation", "latest": "Scroll down"}
LABELS = {
    "#bq-box textarea": "message", "#bq-box .submit-button": "send", "#bq-box .stop-button": "stop", "#bq-mode": "mode",
    "#bq-chat [role=log]": "chat", "#bq-consult-tab": "consult", "#bq-about-tab": "about",
    "#bq-compare-tab": "compare", "#bq-all textarea": "message_all", "#bq-all .submit-button": "send",
    "#bq-all .stop-button": "stop", ".bq-talk [role=log]": "chat", ".bq-side-who input": "contender",
    "#bq-evaluate-tab": "evaluate", ".bq-side-bits input": "bits", "#bq-seed :is(input, textarea)": "shared_seed", "#bq-count": "columns",
    "#bq-arena-tab": "arena", "#bq-both textarea": "message_both", "#bq-both .submit-button": "send",
    "#bq-both .stop-button": "stop", "#bq-category input": "category", "#bq-board-category input": "category",
    "#bq-reasons": "reasons", "#bq-verdicts": "battle", "#bq-ring": "arena",
}  # fmt: skip

# Gradio draws its controls anew as it goes, so they are put right as they come. Messages are escaped Markdown with a
# line of HTML above: what is copied or edited is the text that is seen. The log would be read out at each of its
# updates: it is silenced, and a region of its own says once what began and, once, the whole reply.
LOAD = """
() => {
  const words = __WORDS__, named = __NAMES__, labels = __LABELS__;
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const set = (selector, name, value) => each(selector, found => {
    if (found.getAttribute(name) !== value) found.setAttribute(name, value);
  });
  const speech = () => {
    const lang = document.documentElement.lang || navigator.language;
    return [lang, lang === 'zh-HK' ? 'zh-TW' : lang.slice(0, 2), 'zh-CN'].find(known => words[known]);
  };
  const plain = text => new DOMParser().parseFromString('<pre>\\n' + text + '</pre>', 'text/html').body.textContent;

  const tidy = () => {
    const lang = speech(), say = words[lang];
    for (const selector in labels) set(selector, 'aria-label', say[labels[selector]]);
    for (const key in named) for (const name of ['aria-label', 'title']) {
      set(`:is(#bq-chat, .bq-talk) button[${name}="${named[key]}"]`, name, say[key]);
    }
    for (const id of ['bq-mode', 'bq-count']) {
      set('#' + id, 'role', 'radiogroup');
      set(`#${id} input`, 'name', id);  // Gradio names each apart, and the arrow keys stay where they are
    }
    each(':is(#bq-panel, .bq-side-draw, #bq-board-fold) > button', fold => {
      fold.setAttribute('aria-expanded', fold.classList.contains('open'));
      fold.querySelector('.icon')?.setAttribute('aria-hidden', 'true');
    });
    set(':is(#bq-box, #bq-all, #bq-both) textarea', 'enterkeyhint', 'send');
    set(':is(#bq-chat, .bq-talk) [role=log]', 'aria-live', 'off');
    each(':is(#bq-chat, .bq-talk) [data-testid][aria-label], #bq-chat .example', said => said.removeAttribute('aria-label'));
    set(':is(#bq-chat, .bq-talk) .message.bot, #bq-chat .example', 'lang', 'zh-CN');  // the models write Chinese, whoever reads
    side(say);
    set('#bq-eval-note', 'role', 'status');
    set('.bq-who, .bq-handed, .bq-status', 'lang', lang);
    each('#bq-chat textarea:not([data-plain])', area => {
      area.dataset.plain = '1';
      if (area.value.includes('&')) { area.value = plain(area.value); area.dispatchEvent(new Event('input')); }
    });
    tell(lang);
  };

  // Columns side by side are groups by their letter; one line above them all says who answers, and that all have.
  const side = say => {
    set('.bq-side', 'role', 'group');
    for (const [place, letter] of [...'ABCD'].entries()) set('#bq-side-' + place, 'aria-label', letter);
    set('#bq-note, #bq-duel-note', 'role', 'status');
    for (const letter of 'ab') set('#bq-ring-' + letter, 'aria-label', letter.toUpperCase());
    set('#bq-reasons, #bq-verdicts', 'role', 'group');
    set('#bq-ring', 'tabindex', '0');
    set('#bq-ring', 'role', 'region');
    set('#bq-sides', 'tabindex', '0');  // what scrolls sideways can be reached from the keyboard
    set('#bq-sides', 'role', 'region');
    set('#bq-sides', 'aria-label', say.compare);
  };

  const voice = document.body.appendChild(document.createElement('div'));
  Object.assign(voice, { id: 'bq-voice', className: 'sr-only' });
  voice.setAttribute('role', 'status');
  let busy = false, told = '';
  const speak = (text, lang) => { voice.lang = lang; voice.textContent = text; };
  const tell = lang => {
    const now = Boolean(document.querySelector('#bq-box .stop-button')), ended = busy && !now;
    busy = now;
    if (ended) { told = ''; setTimeout(() => busy || speak(reply(), 'zh-CN'), 200); }  // its last words are drawn by then
    const status = now && document.querySelector('#bq-chat .bq-status')?.textContent;
    if (!status || status.replace(/\\d/g, '') === told) return;  // not each percent
    told = status.replace(/\\d/g, '');
    speak(status, lang);
  };
  const reply = () => {
    const rows = [...document.querySelectorAll('#bq-chat .message-row')];
    const asked = rows.findLastIndex(row => row.classList.contains('user-row'));
    const heard = row => !row.querySelector('[role=alert]');  // that was read out when it came
    return rows.slice(asked + 1).filter(heard).map(row => row.innerText.trim()).join('\\n');
  };

  let due = 0;
  const soon = () => { due ||= requestAnimationFrame(() => { due = 0; tidy(); }); };
  tidy();
  new MutationObserver(soon).observe(document.body, { childList: true, subtree: true, attributeFilter: ['class'] });

  // A phone's keyboard takes its height from the page, and the message box stays above it.
  document.querySelector('meta[name=viewport]').content += ', interactive-widget=resizes-content';
  window.visualViewport?.addEventListener('resize', () => {
    const box = document.activeElement?.closest('#bq-box, #bq-all, #bq-both');
    if (box) box.scrollIntoView({ block: 'nearest' });
  });

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

# The end of this page's address: what is behind # too, which is not sent by itself.
ADDRESS = "(end, kept) => [location.search + location.hash, kept]"
LINK = """end => {
  if (!end) return end;
  const link = location.origin + location.pathname + end;
  navigator.clipboard?.writeText(link).catch(() => {});
  setTimeout(() => document.querySelector('#bq-link')?.scrollIntoView({ block: 'nearest' }), 100);
  return link;
}"""


# After a vote its button is off, and after a battle the one that began another: the focus goes where the next step is.
TO_NEXT = "() => setTimeout(() => document.querySelector('#bq-next')?.focus(), 50)"
TO_BOX = """() => setTimeout(() => {
  if (matchMedia('(hover: hover)').matches) document.querySelector('#bq-both textarea')?.focus();  // opens no keyboard
}, 50)"""


def load() -> str:
    keys = dict.fromkeys((*LABELS.values(), *NAMES))
    words = {lang: {key: WORDS[key][i] for key in keys} for i, lang in enumerate(LANGS)}
    tables = {"__WORDS__": words, "__NAMES__": NAMES, "__LABELS__": LABELS}
    written = LOAD
    for mark, table in tables.items():
        written = written.replace(mark, json.dumps(table, ensure_ascii=False))
    return written
