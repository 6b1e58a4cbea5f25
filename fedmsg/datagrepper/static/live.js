// SPDX-License-Identifier: LGPL-2.1-or-later
// The live view: what the bus carries, at the top of the page, across lost connections.
import { cardOf } from './cards.js';
import { make } from './shared/text.js';

const MOST_CARDS = 300;
const RETRY_MS = 2000;
const MOST_RETRY_MS = 30000;

const page = document.getElementById('search-page');
const list = document.getElementById('cards');
const button = document.getElementById('live');
const state = document.getElementById('state');

let source = null;
let last = page.dataset.position ?? null;
let retries = 0;
let timer = null;
let waiting = [];
let isDrawing = false;
let came = 0;

function streamAddress() {
  const asked = new URLSearchParams(page.dataset.query);
  for (const name of ['start', 'end', 'delta', 'page', 'rows_per_page', 'order', 'size', 'grouped']) asked.delete(name);
  asked.set('meta', page.dataset.liveMeta);
  if (last !== null) asked.set('after', last);
  return `${page.dataset.stream}?${asked}`;
}

function draw() {
  isDrawing = false;
  const shown = new Set([...list.children].slice(0, MOST_CARDS).map((card) => card.dataset.id));
  const cards = document.createDocumentFragment();
  for (const item of waiting.reverse()) {
    if (item.nodeType) cards.append(item);
    else if (!item.msg_id || !shown.has(item.msg_id)) cards.append(cardOf(item));
  }
  waiting = [];
  document.getElementById('empty')?.remove();
  list.prepend(cards);
  trim();
  if (source?.readyState === EventSource.OPEN) state.textContent = `${came.toLocaleString('en')} new`;
}

// A page that is open for days must not grow.
function trim() {
  while (list.children.length > MOST_CARDS && !list.lastElementChild.contains(document.activeElement)) {
    list.lastElementChild.remove();
    // The next page would not follow what is left.
    document.querySelector('.paging')?.remove();
  }
}

function add(item) {
  waiting.push(item);
  // More than the list holds would leave it at once.
  if (waiting.length > MOST_CARDS) waiting.shift();
  if (!isDrawing) {
    isDrawing = true;
    // Not by animation frames: a tab in the background has none.
    setTimeout(draw, 50);
  }
}

function receive(event) {
  if (event.lastEventId) last = event.lastEventId;
  let message;
  try {
    message = JSON.parse(event.data);
  } catch {
    return;
  }
  if (message && typeof message === 'object') {
    came += 1;
    add(message);
  }
}

function connect() {
  source = new EventSource(streamAddress());
  source.addEventListener('open', () => {
    retries = 0;
    state.textContent = came ? `${came.toLocaleString('en')} new` : 'Waiting for messages';
  });
  source.addEventListener('message', receive);
  source.addEventListener('lost', () => {
    last = null;
    add(make('li', 'Some messages are no longer stored; here is a gap.', { class: 'lost' }));
  });
  source.addEventListener('error', () => {
    state.textContent = 'Connection lost; trying again';
    // The browser connects again by itself, but for an answer that is no stream.
    if (source.readyState !== EventSource.CLOSED) return;
    source.close();
    clearTimeout(timer);
    timer = setTimeout(connect, Math.min(RETRY_MS * 2 ** retries, MOST_RETRY_MS));
    retries += 1;
  });
}

/** Switch the live view on or off. */
export function toggle() {
  if (!button) return;
  const on = button.getAttribute('aria-pressed') !== 'true';
  button.setAttribute('aria-pressed', String(on));
  if (on) {
    state.textContent = 'Connecting';
    connect();
  } else {
    clearTimeout(timer);
    source.close();
    state.textContent = 'Stopped';
  }
}

if (button) {
  button.hidden = false;
  button.addEventListener('click', toggle);
  addEventListener('pagehide', () => source?.close());
  // Back to a page that the browser has kept.
  addEventListener('pageshow', (event) => {
    if (event.persisted && button.getAttribute('aria-pressed') === 'true') connect();
  });
}
