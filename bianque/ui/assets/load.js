(words, named, labels) => {
  // Gradio draws its controls anew as it goes, so they are put right as they come. Messages are escaped Markdown with a
  // line of HTML above: what is copied or edited is the text that is seen. The log would be read out at each of its
  // updates: it is silenced, and a region of its own says once what began and, once, the whole reply.
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const set = (selector, name, value) => each(selector, found => {
    if (found.getAttribute(name) !== value) found.setAttribute(name, value);
  });
  const plain = text => new DOMParser().parseFromString('<pre>\n' + text + '</pre>', 'text/html').body.textContent.replace(/\u00a0/g, ' ');

  const tidy = () => {
    const lang = bianque.lang, say = words[lang];
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
    each(':is(#bq-chat, .bq-talk) [data-testid][aria-label], #bq-chat .option', said => said.removeAttribute('aria-label'));
    set(':is(#bq-chat, .bq-talk) .message.bot', 'lang', 'zh-CN');  // the models write Chinese, whoever reads
    set('.bq-talk .placeholder-content', 'role', 'note');
    each(':is(#bq-note, #bq-duel-note, #bq-eval-note) [role=alert]:not([data-seen])', found => {
      found.dataset.seen = '1';
      found.scrollIntoView({ block: 'nearest' });  // what is wrong is said above or below what was pressed
    });
    side(say);
    set('#bq-eval-note', 'role', 'status');
    set('.bq-who, .bq-handed, .bq-learned > b, .bq-relay, .bq-status, .bq-notice', 'lang', lang);
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
    if (!status || status.replace(/\d/g, '') === told) return;  // not each percent
    told = status.replace(/\d/g, '');
    speak(status, lang);
  };
  const reply = () => {
    const rows = [...document.querySelectorAll('#bq-chat .message-row')];
    const asked = rows.findLastIndex(row => row.classList.contains('user-row'));
    const heard = row => !row.querySelector('[role=alert]');  // that was read out when it came
    return rows.slice(asked + 1).filter(heard).map(row => row.innerText.trim()).join('\n');
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

  // One's own words are no AI's.
  const clipboard = navigator.clipboard;
  let pressed = null;
  document.addEventListener('click', event => { pressed = event.target.closest?.('button'); }, true);
  if (clipboard) {
    const write = bianque.clip = clipboard.writeText.bind(clipboard);
    clipboard.writeText = text => {
      const own = pressed?.closest('.message-buttons-right');
      if (own) text = text.slice(0, text.lastIndexOf('\n\n'));
      return write(plain(text));
    };
  }
}
