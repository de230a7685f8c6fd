'use strict';
// The reader of a report: filters, sorts and draws what report.py embedded, a page of items at a time.
// Answers are anybody's text: they enter the page as text nodes only. Nothing is fetched or sent.
const DATA = JSON.parse(document.getElementById('data').textContent);
const { texts, models, items, judged, aspects } = DATA;
const words = new Map(Object.entries(DATA.words));
const PER_PAGE = 10;
const START = { set: '', task: '', asks: '', errors: '', aspect: '', low: '', high: '', q: '', sort: '', models: '' };
const state = { ...START };
let lang = 'zh', shown = items, page = 0, current = null;

const $ = id => document.getElementById(id);
const say = (key, values = {}) =>  // a phase or an end that has no word here stands as it is
  (words.get(key) ?? [key, key])[lang === 'zh' ? 0 : 1].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
const mean = numbers => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

/** An element; strings among its children become text, empty ones are left out. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter(child => child != null && child !== '' && child !== false));
  return made;
}

// --- What is asked of an item -------------------------------------------------------------------------------------

items.forEach((item, place) => {
  item.place = place;
  item.key = [item.task, item.set, item.id, item.turn].map(encodeURIComponent).join('/');
});

const visible = () => (state.models ? new Set(state.models.split(',').map(Number)) : null);
const answersOf = item => {
  const chosen = visible();
  return chosen ? item.answers.filter(answer => chosen.has(answer.model)) : item.answers;
};
const answered = item => answersOf(item).filter(answer => answer.text !== undefined);

/** A judge's score of the whole dialogue: one aspect, or the mean of all; undefined where there is none. */
function score(answer, aspect = state.aspect) {
  const scores = judged[answer.judged]?.scores;
  return scores ? (aspect ? scores[aspect] : mean(Object.values(scores))) : undefined;
}

const ASKS = {
  some: (answers) => answers.some(answer => answer.asks),
  none: (answers) => answers.length > 0 && !answers.some(answer => answer.asks),
  split: (answers) => answers.some(answer => answer.asks) && answers.some(answer => !answer.asks),
  human: (answers, item) => item.reference !== undefined && answers.some(answer => !!answer.asks !== item.asks),
};

function everything(item) {
  const said = answer => [texts[answer.text ?? answer.error], ...(answer.history ?? []).map(turn => texts[turn[1]])];
  return item.words ??= [item.set, item.id, texts[item.reference], ...(item.history ?? []).map(turn => texts[turn[1]]),
    ...item.answers.flatMap(said)].join('\n').toLowerCase();
}

function passes(item) {
  if (state.set && item.set !== state.set || state.task && item.task !== state.task) return false;
  const answers = answersOf(item);
  if (!answers.length || state.errors && !answers.some(answer => answer.error !== undefined)) return false;
  if (state.asks && !ASKS[state.asks](answered(item), item)) return false;
  if (state.low !== '' || state.high !== '') {
    const low = state.low === '' ? -Infinity : Number(state.low), high = state.high === '' ? Infinity : Number(state.high);
    if (!answers.map(answer => score(answer)).some(value => value >= low && value <= high)) return false;
  }
  return state.q.toLowerCase().split(/\s+/).every(word => everything(item).includes(word));
}

function bigrams(index) {
  const text = texts[index].replace(/\s/g, '');
  return new Set(Array.from({ length: Math.max(1, text.length - 1) }, (_, at) => text.slice(at, at + 2)));
}

/** 1 − the mean Dice overlap of the answers' character bigrams, over all pairs: 0 the same words, 1 none shared. */
function disagreement(item) {
  const answers = answered(item).map(answer => answer.bigrams ??= bigrams(answer.text)), overlaps = [];
  answers.forEach((one, at) => answers.slice(at + 1).forEach(other => {
    let shared = 0;
    for (const gram of one) shared += other.has(gram);
    overlaps.push(2 * shared / (one.size + other.size));
  }));
  return overlaps.length ? 1 - mean(overlaps) : -1;
}

const spread = values => (values.length > 1 ? Math.max(...values) - Math.min(...values) : -1);
const lengths = item => answered(item).map(answer => answer.length);
const SORTS = {  // the largest first
  longest: item => Math.max(-1, ...lengths(item)),
  shortest: item => -Math.min(1e9, ...lengths(item)),
  uneven: item => spread(lengths(item)),
  differ: disagreement,
  judges: item => spread(answersOf(item).map(answer => score(answer)).filter(value => value !== undefined)),
  slow: item => Math.max(-1, ...answersOf(item).map(answer => answer.seconds ?? -1)),
};

function select() {
  shown = items.filter(passes);
  if (!state.sort) return;
  const weight = new Map(shown.map(item => [item, SORTS[state.sort](item)]));
  shown.sort((a, b) => weight.get(b) - weight.get(a) || a.place - b.place);
}

// --- An item, side by side ----------------------------------------------------------------------------------------

/** Text with what is looked for marked and each question underlined: the badge 问 shows what it rests on. */
function marked(text, questions = []) {
  const spans = [];
  let from = 0;
  for (const question of questions) {
    const at = text.indexOf(question, from);
    if (at >= 0) spans.push(['span', 'asks', at, from = at + question.length]);
  }
  const lower = text.toLowerCase();
  for (const word of lower.length === text.length ? state.q.toLowerCase().split(/\s+/).filter(Boolean) : []) {
    for (let at = lower.indexOf(word); at >= 0; at = lower.indexOf(word, at + word.length)) {
      spans.push(['mark', 'found', at, at + word.length]);
    }
  }
  const edges = [...new Set([0, text.length, ...spans.flatMap(span => span.slice(2))])].sort((a, b) => a - b);
  return edges.slice(1).map((end, at) => {
    const over = spans.filter(([, , start, stop]) => start <= edges[at] && stop >= end);
    return over.reduce((inner, [tag, name]) => make(tag, { class: name }, inner), text.slice(edges[at], end));
  });
}

function bubble([role, index, phase, model]) {
  const who = [say(role === 'user' ? 'patient' : 'doctor'), phase && say(phase), model].filter(Boolean).join(' · ');
  return make('div', { class: `bubble ${role}`, lang: 'zh-CN' }, make('span', { class: 'who', lang }, who), marked(texts[index]));
}

/** The dialogue before an answer: what the patient said last in full, the rest folded. */
function talk(history) {
  const earlier = history.slice(0, -1);
  return [
    earlier.length > 0 && make('details', {}, make('summary', {}, say('earlier', { n: earlier.length })), earlier.map(bubble)),
    ...history.slice(-1).map(bubble),
  ];
}

const badge = asks => make('span', { class: asks ? 'badge asked' : 'badge' }, say(asks ? 'asks_badge' : 'advises_badge'));
const fold = (name, ...inner) => make('details', {}, make('summary', {}, say(name)), ...inner);
const raw = text => text && make('pre', { lang: 'zh-CN', tabindex: 0 }, text);

function judgement(answer) {
  const found = judged[answer.judged];
  if (!found) return null;
  const head = found.scores
    ? aspects.filter(name => name in found.scores).map(name => `${say(name)} ${found.scores[name]}`).join(' · ') : say('unread');
  return make('details', {}, make('summary', {}, `${say('judge')} ${head}`),
    found.error && make('p', { class: 'failed' }, found.error), raw(texts[found.answer]),
    found.prompt !== undefined && fold('judge_prompt', raw(texts[found.prompt])));
}

/** A line of small facts, those that there are. */
const line = (...facts) => make('div', { class: 'facts-line' }, facts.filter(Boolean).map(fact => make('span', {}, fact)));

function answerOf(answer) {
  const failed = answer.error !== undefined;
  const known = (key, value, digits) => value !== undefined && say(key, { n: value.toFixed(digits) });
  return make('div', { class: 'answer', role: 'group', 'aria-label': models[answer.model] },
    make('h4', {}, models[answer.model]),
    line(!failed && badge(answer.asks), answer.phase && say(answer.phase), known('characters', answer.length, 0),
      known('tokens', answer.tokens, 0), known('took', answer.seconds, 2), known('first', answer.first, 2),
      answer.finish && answer.finish !== 'stop' && say(answer.finish)),
    answer.history && talk(answer.history),
    failed
      ? make('p', { class: 'failed' }, make('b', {}, `${say('failed')} ${answer.code ?? ''} `), marked(texts[answer.error]))
      : make('p', { class: 'text', lang: 'zh-CN' }, marked(texts[answer.text], answer.questions)),
    answer.raw !== undefined && fold('raw', raw(texts[answer.raw])), judgement(answer));
}

function referenceOf(item) {
  if (item.reference === undefined) return null;
  return make('div', { class: 'answer reference', role: 'group', 'aria-label': say('reference') },
    make('h4', {}, say('reference')),
    line(badge(item.asks), say('characters', { n: item.length })),
    make('p', { class: 'text', lang: 'zh-CN' }, marked(texts[item.reference], item.questions)));
}

function card(item, place) {
  const name = `${item.set} · ${item.id} · ${say('turn', { n: item.turn + 1 })}`, heading = `item-${item.place}`;
  return make('article', { class: 'card', tabindex: -1, 'aria-labelledby': heading, 'data-key': item.key },
    make('header', {}, make('h3', { id: heading }, name),
      make('span', { class: 'quiet' }, `${say(item.task)} · ${place + 1}/${shown.length}`),
      make('a', { href: '#' + fragment(item.key), 'aria-label': `${say('link')}: ${name}` }, say('link'))),
    talk(item.history ?? []),
    make('div', { class: 'columns' }, referenceOf(item), answersOf(item).map(answerOf)));
}

// --- State: the fragment of the address holds it all ----------------------------------------------------------------

function fragment(key) {
  const kept = Object.entries(state).filter(([name, value]) => value !== START[name]);
  return new URLSearchParams([...kept, ...(key ? [['item', key]] : [])]).toString();
}

function remember(key) {
  try { history.replaceState(null, '', '#' + fragment(key)); } catch { /* a frame without an address of its own */ }
}

/** Take over what the address asks for; a link to a section asks for nothing. */
function recall() {
  const asked = new URLSearchParams(location.hash.slice(1)), names = Object.keys(START).filter(name => asked.has(name));
  if (!names.length && !asked.has('item')) return;
  Object.assign(state, START, Object.fromEntries(names.map(name => [name, asked.get(name)])));
  for (const [name, table] of [['asks', ASKS], ['sort', SORTS]]) if (!Object.hasOwn(table, state[name])) state[name] = '';
  controls();
  refresh(asked.get('item'));
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  const from = page * PER_PAGE;
  $('items').replaceChildren(...shown.slice(from, from + PER_PAGE).map((item, at) => card(item, from + at)));
  $('count').textContent = say(shown.length ? 'count' : 'nothing', { n: shown.length, all: items.length, page: page + 1, pages });
  document.querySelectorAll('.pager').forEach(pager => pager.replaceChildren(...[
    ['first_page', 0, page > 0], ['back', page - 1, page > 0],
    ['forward', page + 1, page < pages - 1], ['last_page', pages - 1, page < pages - 1],
  ].map(([name, to, can]) => make('button', { type: 'button', disabled: !can, onclick: () => turn(to) }, say(name)))));
}

function turn(to) {
  page = to;
  current = null;
  remember();
  draw();
  $('rows').scrollIntoView();
  $('count').focus({ preventScroll: true });
}

/** Select and draw anew; `key` names an item to go to. */
function refresh(key) {
  select();
  const place = key ? shown.findIndex(item => item.key === key) : -1;
  page = Math.max(0, Math.floor(place / PER_PAGE));
  current = null;
  draw();
  if (place >= 0) go(place);
  else if (key) $('count').textContent = say('gone', { key });
}

function go(place) {
  if (place < 0 || place >= shown.length) return;
  if (Math.floor(place / PER_PAGE) !== page) { page = Math.floor(place / PER_PAGE); draw(); }
  current = place;
  const found = $('items').children[place % PER_PAGE];
  found.scrollIntoView();
  found.focus({ preventScroll: true });
  remember(shown[place].key);
}

// --- Controls -----------------------------------------------------------------------------------------------------

let waiting = 0;
const change = (name, value) => {
  state[name] = value;
  clearTimeout(waiting);
  waiting = setTimeout(() => { refresh(); remember(); }, name === 'q' ? 200 : 0);
};

const field = (name, ...inner) => make('label', { class: name === 'q' ? 'search' : '' }, say(name), ...inner);
const input = (name, attributes) =>
  make('input', { ...attributes, value: state[name], oninput: event => change(name, event.target.value) });

function choice(name, options) {
  if (options.length < 2) return null;
  const made = make('select', { 'aria-label': say(name), onchange: event => change(name, event.target.value) },
    make('option', { value: '' }, say(`${name}_any`)),
    options.map(([value, text]) => make('option', { value, selected: state[name] === value }, text)));
  return field(name, made);
}

function chips() {
  const chosen = visible(), boxes = [];
  const pick = () => {
    const on = models.map((_, at) => at).filter(at => boxes[at].checked);
    change('models', on.length === models.length ? '' : on.join(',') || '-1');
  };
  models.forEach((_, at) => boxes.push(make('input', { type: 'checkbox', checked: !chosen || chosen.has(at), onchange: pick })));
  return make('fieldset', {}, make('legend', {}, say('models')),
    make('div', { class: 'chips' }, models.map((name, at) => make('label', { class: 'chip' }, boxes[at], name))));
}

const kinds = name => [...new Set(items.map(item => item[name]))];
const named = table => Object.keys(table).map(name => [name, say(`by_${name}`)]);

function controls() {
  const has = field => items.some(item => item.answers.some(answer => answer[field] !== undefined));
  const scored = judged.some(found => found.scores), timed = has('seconds'), failed = has('error');
  const sorts = named(SORTS).filter(([name]) => name === 'judges' ? scored : name === 'slow' ? timed : true);
  const range = { type: 'number', min: 1, max: 5, step: 0.25 };
  $('controls').replaceChildren(...[
    chips(),
    field('q', input('q', { type: 'search', id: 'search' })),
    choice('set', kinds('set').map(name => [name, name])),
    choice('task', kinds('task').map(name => [name, say(name)])),
    choice('asks', named(ASKS).filter(([name]) => name !== 'human' || items.some(item => item.reference !== undefined))),
    scored && choice('aspect', aspects.map(name => [name, say(name)])),
    scored && field('low', input('low', range)),
    scored && field('high', input('high', range)),
    choice('sort', sorts),
    failed && make('label', { class: 'tick' }, make('input', {
      type: 'checkbox', checked: !!state.errors, onchange: event => change('errors', event.target.checked ? '1' : ''),
    }), say('errors')),
    make('button', { type: 'button', onclick: () => { Object.assign(state, START); controls(); refresh(); remember(); } }, say('reset')),
  ].filter(Boolean));
}

function speak(to) {
  lang = to;
  document.documentElement.lang = to === 'zh' ? 'zh-CN' : 'en';
  document.documentElement.dataset.lang = to;
  document.querySelectorAll('[data-zh]').forEach(named => named.setAttribute('aria-label', named.dataset[to]));
  controls();
  draw();
}

// --- To take along --------------------------------------------------------------------------------------------------

function save(name, type, text) {
  const link = make('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The rows on view as they stand in rows.jsonl, with the label that generated text must carry. */
const rows = () => shown.flatMap(item => answersOf(item).map(answer => ({
  task: item.task, set: item.set, id: item.id, turn: item.turn, model: models[answer.model],
  history: (answer.history ?? item.history).map(([role, index, phase, model]) => ({ role, content: texts[index], phase, model })),
  answer: texts[answer.text] ?? null, raw: texts[answer.raw] ?? null, error: texts[answer.error] ?? null, code: answer.code ?? null,
  reference: texts[item.reference] ?? null, asks: answer.asks ?? null, length: answer.length ?? null, phase: answer.phase ?? null,
  first: answer.first ?? null, seconds: answer.seconds ?? null, tokens: answer.tokens ?? null, finish: answer.finish ?? null,
  judged: judged[answer.judged]?.scores ?? null, label: DATA.label,
})));

/** One cell of CSV; what a spreadsheet would run as a formula gets an apostrophe before it. */
function cell(value) {
  const text = value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value);
  return `"${(typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? "'" + text : text).replaceAll('"', '""')}"`;
}

function csv() {
  const found = rows(), names = Object.keys(found[0] ?? { task: 0 });
  const lines = [names, ...found.map(row => names.map(name => row[name]))];
  return '\ufeff' + lines.map(values => values.map(cell).join(',') + '\r\n').join('');
}

$('save-csv').onclick = () => save(`${DATA.name}.csv`, 'text/csv', csv());
const jsonl = () => rows().map(row => JSON.stringify(row) + '\n').join('');
$('save-jsonl').onclick = () => save(`${DATA.name}.jsonl`, 'application/jsonl', jsonl());
$('save-figures').onclick = () => save(`${DATA.name}.md`, 'text/markdown', DATA.markdown);

// --- Definitions, keys, beginning -----------------------------------------------------------------------------------

/** A figure's definition beside its name: on hover, on focus, at a tap. The legend says the same. */
function explain(event) {
  const term = event.target.closest?.('.term'), tip = $('tip');
  if (!term) { if (event.type !== 'focusin') tip.hidden = true; return; }
  tip.replaceChildren(...[...$(term.getAttribute('aria-describedby')).childNodes].map(node => node.cloneNode(true)));
  tip.hidden = false;
  const at = term.getBoundingClientRect();
  tip.style.left = `${Math.max(12, Math.min(at.left, innerWidth - tip.offsetWidth - 12))}px`;
  tip.style.top = `${at.bottom + tip.offsetHeight + 12 < innerHeight ? at.bottom + 6 : Math.max(6, at.top - tip.offsetHeight - 6)}px`;
}

['pointerover', 'focusin', 'click'].forEach(name => document.addEventListener(name, explain));
addEventListener('scroll', () => { $('tip').hidden = true; }, { passive: true, capture: true });

document.addEventListener('keydown', event => {
  if (event.key === 'Escape') $('tip').hidden = true;
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea')) return;
  const step = { j: 1, k: -1 }[event.key];
  if (step) go(current === null ? page * PER_PAGE + (step < 0 ? -1 : 0) : current + step);
  else if (event.key === '/') $('search').focus();
  else return;
  event.preventDefault();
});

let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('header details:not([open]), #items details:not([open])')];
  folded.forEach(found => { found.open = true; });
});
addEventListener('afterprint', () => folded.forEach(found => { found.open = false; }));
addEventListener('hashchange', recall);
$('language').onclick = () => speak(lang === 'zh' ? 'en' : 'zh');
speak(navigator.languages.some(name => /^zh\b/i.test(name)) ? 'zh' : 'en');
recall();
