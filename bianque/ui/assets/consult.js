words => {
  // What the consultation does in the browser alone: the menu, what is being sent, notices, voice, and what is kept.
  const find = selector => document.querySelector(selector), each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const wait = (ms, until) => new Promise(done => {
    const began = Date.now(), look = () => (until() || Date.now() - began > ms ? done() : setTimeout(look, 50));
    look();
  });
  const box = () => find('#bq-box textarea'), busy = () => Boolean(find('#bq-box .stop-button')), root = document.documentElement;
  const write = text => {
    if (!box() || box().value === text) return;
    box().value = text;
    box().dispatchEvent(new Event('input', { bubbles: true }));
  };
  const node = (tag, kind, text = '') => Object.assign(document.createElement(tag), { className: kind, textContent: text });
  const button = (kind, name, act) => {
    const made = node('button', kind);
    Object.assign(made, { type: 'button', title: name, onclick: act });
    made.setAttribute('aria-label', name);
    return made;
  };

  // --- what is being sent shows at once, before the server has heard of it ---
  let pending = null;
  const settle = () => { pending?.remove(); pending = null; };
  const keep = bianque.keep;
  bianque.keep = turns => { keep(turns); if (turns.length) settle(); };
  const closeEditor = () => find('#bq-chat textarea')?.closest('.message-row')?.nextElementSibling?.querySelectorAll('button')[1]?.click();
  const dropToast = () => find('#bq-toast')?.remove();
  bianque.sending = text => {
    closeEditor();
    settle();
    hush();
    dropToast();
    if (text && box()?.value.trim() === text.trim()) {
      write('');
      bianque.save({ sent: text, draft: '' });
    } else if (text) bianque.save({ sent: text });
    root.classList.add('bq-talking');
    pending = node('div', 'bq-pending');
    if (text) pending.append(node('p', 'bq-mine', text));
    pending.append(node('span', 'bq-status', words.sending));
    find('#bq-chat .bubble-wrap')?.append(pending);
    pending.scrollIntoView({ block: 'nearest' });
  };
  const lost = () => {  // the network failed: the words go back into the box
    if (!pending || !find('.toast-body.error')) return;
    const text = pending.querySelector('.bq-mine')?.textContent;
    settle();
    if (text && !box().value) write(text);
    toast(words.not_sent);
  };

  // --- a line at the foot of the page, with a way back ---
  const toast = (text, ...acts) => {  // each act: what its button says, and what it does
    dropToast();
    const line = node('div', '', text);
    line.id = 'bq-toast';
    line.setAttribute('role', 'status');
    for (const [name, act] of acts) line.append(Object.assign(node('button', '', name), { onclick: () => { dropToast(); act(); } }));
    document.body.append(line);
    setTimeout(() => line.remove(), 12000);
  };

  bianque.copy = () => {
    const who = turn => (turn.role === 'user' ? words.patient : `${words[turn.phase] || ''} · ${turn.model}`);
    const all = bianque.turns().map(turn => `${who(turn)}\n${turn.content}`);
    bianque.clip?.([...all, words.label].join('\n\n')).then(() => toast(words.copied));
  };

  // The page for the doctor, over this one.
  bianque.sheet = (html, text) => {
    if (!html) return;
    const over = document.body.appendChild(node('dialog', '')), frame = node('iframe', ''), bar = node('p', '');
    over.id = 'bq-sheet';
    over.setAttribute('aria-label', words.make_summary);
    const zoom = (innerWidth > 640 ? 1.25 : 1) * (bianque.prefs.large ? 1.25 : 1);  // on paper it is one A4 as it stands
    Object.assign(frame, { srcdoc: html.replace('</head>', `<style>@media screen { html { zoom: ${zoom} } }</style></head>`), title: words.make_summary });
    const copy = node('button', '', words.copy);
    copy.onclick = () => bianque.clip?.(text).then(() => { copy.textContent = words.copied; });
    bar.append(copy, Object.assign(node('button', '', words.close), { onclick: () => over.close() }));
    over.append(bar, frame);
    over.onclose = () => over.remove();
    over.showModal();
  };

  // --- several consultations ---
  const redraw = async () => {
    find('#bq-open').click();
    write(bianque.get('draft') || '');
    await wait(3000, () => talking() === Boolean(bianque.turns().length));
  };
  const calm = async () => {
    await wait(20000, () => !pending);
    if (busy()) find('#bq-box .stop-button').click();
    await wait(5000, () => !busy());
  };
  const go = async name => {
    closeMenu();
    await calm();
    await bianque.open(name);
    await redraw();
    box()?.focus({ preventScroll: true });
  };
  const closeMenu = () => find('#bq-menu')?.removeAttribute('open');
  const fill = () => {
    const rows = bianque.list().map(one => {
      const row = node('li', one.id === bianque.current() ? 'bq-current' : '');
      const text = one.turns.find(turn => turn.role === 'user')?.content || '', day = new Date(one.at);
      const open = node('button', '', text.slice(0, 40));
      Object.assign(open, { type: 'button', onclick: () => go(one.id) });
      open.append(node('small', '', `${day.toLocaleDateString(bianque.lang)} ${day.toTimeString().slice(0, 5)}`));
      row.append(open, button('bq-drop', words.delete_one, async () => {
        const turns = one.turns, mine = one.id === bianque.current();
        bianque.drop(one.id);
        if (mine) await go('');
        fill();
        toast(words.deleted, [words.restore, async () => { await go(''); bianque.keep(turns); await redraw(); }]);
      }));
      return row;
    });
    find('#bq-list')?.replaceChildren(...rows);
    each('#bq-menu section', found => { found.hidden = !rows.length; });
  };
  bianque.clearing = () => {
    const turns = bianque.turns(), draft = box()?.value;
    closeEditor();
    toast(words.cleared, [words.restore, async () => { bianque.keep(turns); await redraw(); write(draft); }]);
  };

  bianque.judged = word => {
    if (!word) return dropToast();  // taken back
    const [liked, index] = word.split(':');
    const why = Object.entries(words.bad_reasons).map(([reason, name]) => [name, () => {
      bianque.because = `${index}:${reason}`;
      find('#bq-because').click();
    }]);
    toast(words.feedback_kept + (liked === 'like' ? '' : ' ' + words.why_not), ...(liked === 'like' ? [] : why));
  };

  const acts = {
    new: () => go(''),
    large: () => bianque.set('large', !bianque.prefs.large),
    dark: () => {
      bianque.set('theme', document.body.classList.contains('dark') ? 'light' : 'dark');
      document.body.classList.toggle('dark', bianque.prefs.theme === 'dark');
    },
    forget: async target => {
      if (!confirm(target.dataset.sure)) return;
      for (const one of bianque.list()) bianque.drop(one.id);
      await go('');
      fill();
    },
  };
  document.addEventListener('click', event => {
    const target = event.target.closest?.('[data-do]');
    if (target?.tagName === 'BUTTON') { acts[target.dataset.do](target); switches(); }
    if (!event.composedPath().includes(find('#bq-menu'))) closeMenu();  // what was pressed may be gone by now
    const ack = event.target.closest?.('.bq-ack');
    if (ack) { bianque.save({ seen: [...(bianque.get('seen') || []), place(ack.closest('.message-row'))] }); tidy(); }
    const row = event.target.closest?.('#bq-chat .message-row');
    each('#bq-chat .bq-tapped', found => found !== row && found.classList.remove('bq-tapped'));
    row?.classList.add('bq-tapped');
  });
  document.addEventListener('change', event => {
    if (event.target.dataset?.do !== 'lang') return;
    bianque.set('lang', event.target.value);
    location.reload();
  });
  document.addEventListener('toggle', event => { if (event.target.id === 'bq-menu' && event.target.open) { fill(); switches(); } }, true);
  document.addEventListener('keydown', event => {
    if (event.key !== 'Escape') return;
    if (find('#bq-menu[open]')) { closeMenu(); find('#bq-menu summary').focus(); }
    if (event.target.closest?.('#bq-chat textarea')) { closeEditor(); box()?.focus(); }
  });
  const switches = () => {
    const on = { large: root.classList.contains('bq-large'), dark: document.body.classList.contains('dark') };
    each('#bq-menu [role=switch]', found => found.setAttribute('aria-checked', on[found.dataset.do]));
  };

  // --- reading out and speaking, by the browser alone ---
  let reading = null;
  const hush = () => { window.speechSynthesis?.cancel(); reading?.classList.remove('bq-on'); reading = null; };
  const readOut = (made, text) => {
    const again = reading === made;
    hush();
    if (again) return;
    const voice = new SpeechSynthesisUtterance(text);
    voice.lang = 'zh-CN';
    voice.rate = .9;
    voice.onend = hush;
    reading = made;
    made.classList.add('bq-on');
    speechSynthesis.speak(voice);
  };
  const Hearing = window.SpeechRecognition || window.webkitSpeechRecognition;
  let hearing = null;
  const hear = made => {
    if (hearing) return hearing.stop();
    if (!bianque.prefs.heard) { bianque.set('heard', true); return toast(words.speak_why); }
    const before = box().value;
    hearing = new Hearing();
    Object.assign(hearing, {
      lang: 'zh-CN', interimResults: true,
      onresult: event => write(before + [...event.results].map(found => found[0].transcript).join('')),
      onerror: () => toast(words.speak_failed),
      onend: () => { hearing = null; made.classList.remove('bq-on'); box().focus(); },
    });
    made.classList.add('bq-on');
    toast(words.listening);
    hearing.start();
  };

  // Paper is white, whatever the page's colours.
  let night = false;
  addEventListener('beforeprint', () => { night = document.body.classList.contains('dark'); document.body.classList.remove('dark'); });
  addEventListener('afterprint', () => document.body.classList.toggle('dark', night));

  // --- put right as Gradio draws ---
  const place = row => [...document.querySelectorAll('#bq-chat .message-row')].indexOf(row);
  const talking = () => Boolean(find('#bq-chat .message-row'));
  const tidy = () => {
    if (busy()) settle();
    lost();
    root.classList.toggle('bq-talking', talking() || Boolean(pending));
    if (busy() && find('#bq-chat textarea')) closeEditor();
    const seen = bianque.get('seen') || [], notices = '#bq-chat .message-row:has(.bq-emergency, .bq-crisis)';
    const newest = [...document.querySelectorAll(notices)].filter(row => !seen.includes(place(row))).pop();
    each(notices, row => {
      const over = seen.includes(place(row)), ack = row.querySelector('.bq-ack');
      row.classList.toggle('bq-pinned', row === newest);  // two would hide the talk on a phone
      if (over) ack?.remove();
      else if (!ack) row.querySelector('.bq-calls')?.append(button('bq-ack', words.acknowledge, null));
    });
    each('.bq-ack:empty', found => { found.textContent = words.acknowledge; });
    each('#bq-chat a[target]', link => link.removeAttribute('target'));
    if (window.speechSynthesis) each('#bq-chat .message-buttons-left .icon-button-wrapper', bar => {
      const row = bar.closest('.message-buttons').previousElementSibling, has = bar.querySelector('.bq-read');
      if (!row?.querySelector('.bq-who')) return has?.remove();
      if (!has) bar.append(button('bq-read', words.read_aloud, event => readOut(event.currentTarget, row.innerText)));
    });
    if (Hearing && box() && !find('.bq-mic')) box().closest('.input-container')?.append(button('bq-mic', words.speak, event => hear(event.currentTarget)));
  };
  let due = 0;
  new MutationObserver(() => { due ||= requestAnimationFrame(() => { due = 0; tidy(); }); })
    .observe(document.body, { childList: true, subtree: true, attributeFilter: ['class'] });
  addEventListener('pagehide', () => { if (box()) bianque.save({ draft: box().value }); });

  // --- from the first picture to the page ---
  const greeted = () => find(`#bq-head[data-lang="${bianque.lang}"]`) && talking() === Boolean(bianque.turns().length);
  bianque.ready.then(() => wait(5000, () => box() && greeted())).then(async () => {
    const first = find('#bq-first textarea'), focused = document.activeElement === first;
    const text = first?.value || (box()?.value ? '' : bianque.get('draft')) || '';
    if (text) write(text);
    tidy();
    switches();
    bianque.greeted = true;
    root.classList.add('bq-ready');
    performance.mark('bq-ready');
    find('#bq-first')?.remove();
    if (focused) box().focus();
    if (bianque.eager && text) find('#bq-box .submit-button')?.click();
  });
}
