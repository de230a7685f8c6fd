// Runs before Gradio: what this browser keeps (consultations, drafts, switches), and the language and colours it asks for.
// One record a consultation, one consultation a tab: a lock on its name keeps two tabs from writing over each other.
(() => {
  const KEPT = 'bianque:', MOST = 50, root = document.documentElement;
  const read = (store, name) => { try { return JSON.parse(store.getItem(name)); } catch { return null; } };
  const write = (store, name, value) => { try { store.setItem(name, JSON.stringify(value)); return true; } catch { return false; } };
  const prefs = read(localStorage, 'bianque-prefs') || {};
  const newId = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
  const at = id => read(localStorage, KEPT + id);
  const list = () => Object.keys(localStorage).filter(name => name.startsWith(KEPT))
    .map(name => ({ id: name.slice(KEPT.length), ...read(localStorage, name) }))
    .filter(one => one.turns?.length).sort((a, b) => b.at - a.at);
  let id = '', record = {}, free = () => {};

  const save = patch => {
    Object.assign(record, patch);
    if (!record.turns?.length && !record.draft && !record.sent) return localStorage.removeItem(KEPT + id);
    const older = list().filter(one => one.id !== id);
    for (const one of older.slice(MOST - 1)) localStorage.removeItem(KEPT + one.id);
    while (!write(localStorage, KEPT + id, record) && older.length) localStorage.removeItem(KEPT + older.pop().id);
  };

  // Resolves once this tab holds the consultation's lock, or to false where another tab has it.
  const lock = (name, patience) => new Promise(done => {
    if (!navigator.locks) return done(true);
    const options = patience ? { signal: AbortSignal.timeout(patience) } : { ifAvailable: true };
    navigator.locks.request(KEPT + name, options, held => {
      if (!held) return done(false);
      done(true);
      return new Promise(release => { free = release; });
    }).catch(() => done(false));
  });
  const enter = async (name, patience = 0, copy = true) => {
    free();
    free = () => {};
    record = (name && at(name)) || {};
    if (!name || !await lock(name, patience)) {  // another tab has it: a duplicated tab goes on with a copy, a new one anew
      if (!copy) record = {};
      await lock(name = newId(), 0);
    }
    id = name;
    sessionStorage.setItem('bianque-id', id);
  };

  // A reload takes its own consultation up again, and the page that it was lets go of it in a moment; a new tab the newest.
  const mine = sessionStorage.getItem('bianque-id');
  const begin = enter(mine || list()[0]?.id, mine ? 1500 : 0, Boolean(mine)).then(() => {
    if (record.sent && record.turns?.at(-1)?.content !== record.sent) record.draft ||= record.sent;  // never answered
    record.sent = '';
  });
  localStorage.removeItem('bianque');  // what an earlier version kept

  window.bianque = {
    prefs, list, ready: begin, save,
    turns: () => record.turns || [],
    get: name => record[name],
    set: (name, value) => { prefs[name] = value; write(localStorage, 'bianque-prefs', prefs); dress(); },
    keep: turns => {
      if (!id || JSON.stringify(turns) === JSON.stringify(record.turns || [])) return;
      save({ turns, at: Date.now(), sent: '' });
    },
    open: name => begin.then(() => enter(name)).then(() => window.bianque.turns()),
    drop: name => { if (name !== id) return localStorage.removeItem(KEPT + name); record = {}; save({}); },
    current: () => id,
  };

  // Gradio's clocks of what loads tick at each frame, one of them for ever. None of them shows here, so none ticks.
  const draw = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = act => (/performance\.now\(\).*1e3/.test(act) ? 0 : draw(act));

  const asked = new URLSearchParams(location.search).get('__theme');
  const dress = () => {
    const theme = asked || prefs.theme;
    root.classList.toggle('bq-large', Boolean(prefs.large));
    for (const one of ['dark', 'light']) root.classList.toggle('bq-' + one, theme === one);
  };
  dress();

  // What is being written is kept as it is written, and what is sent before the page can send it is sent then.
  const BOX = '#bq-first textarea, #bq-box textarea';
  document.addEventListener('input', event => {
    if (event.target.matches(BOX)) begin.then(() => save({ draft: event.target.value }));
  });
  document.addEventListener('keydown', event => {
    if (!event.target.matches('#bq-first textarea') || event.key !== 'Enter' || event.isComposing || event.shiftKey) return;
    event.preventDefault();
    window.bianque.eager = true;
  });
  if (prefs.theme && !asked) {
    const match = window.matchMedia.bind(window);
    window.matchMedia = query => (query.includes('prefers-color-scheme')
      ? match(query.includes('dark') === (prefs.theme === 'dark') ? 'all' : 'not all') : match(query));
  }
  if (prefs.lang) {
    for (const [name, value] of [['language', prefs.lang], ['languages', [prefs.lang]]]) {
      Object.defineProperty(navigator, name, { get: () => value });
    }
    const fetch = window.fetch.bind(window);
    window.fetch = (input, init = {}) => {
      const headers = new Headers(init.headers || input.headers);
      headers.set('Accept-Language', prefs.lang);
      return fetch(input, { ...init, headers });
    };
  }
  const own = prefs.lang || navigator.language;
  root.lang = window.bianque.lang = /^zh-(TW|HK|MO|Hant)/i.test(own) ? 'zh-TW' : { en: 'en', ko: 'ko' }[own.slice(0, 2)] || 'zh-CN';
  if (mine ? at(mine)?.turns?.length : list().length) root.classList.add('bq-talking');
  setTimeout(() => root.classList.add('bq-ready'), 15000);  // the page shows even where a script of it failed
})();
