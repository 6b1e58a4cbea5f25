// SPDX-License-Identifier: LGPL-2.1-or-later
// The page of a search: endless scrolling, open a message, keys; what else it does is in modules of its own.
import { showChart } from './chart.js';
import { showFacets } from './completion.js';
import { enableCopy } from './shared/copy.js';
import { toggle } from './live.js';
import { make } from './shared/text.js';

const list = document.getElementById('cards');
const dialog = document.getElementById('message');
const filters = document.getElementById('filters');

/** Read HTML of this server; nothing in it runs. */
async function fragment(address) {
  const wanted = new URL(address, location.href);
  wanted.searchParams.set('chrome', 'false');
  const answer = await fetch(wanted, { headers: { Accept: 'text/html' } });
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

// ---------------------------------------------------------------- the next pages

async function append(link) {
  const there = await fragment(link.href);
  const more = there.querySelector('.cards');
  if (!more) throw new Error('no cards');
  const shown = new Set([...list.children].map((card) => card.dataset.id));
  for (const card of [...more.children]) {
    if (!card.dataset.id || !shown.has(card.dataset.id)) list.append(document.adoptNode(card));
  }
  const next = there.querySelector('a.next');
  if (next) link.href = next.getAttribute('href');
  else link.parentElement.remove();
  return Boolean(next);
}

function scrollEndlessly() {
  const link = document.querySelector('.paging a.next');
  if (!link) return;
  const watcher = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    try {
      if (await append(link)) watcher.observe(link);
    } catch {
      // The link stays, for a click.
      link.textContent = 'Next page (it did not load by itself)';
    }
  }, { rootMargin: '600px' });
  watcher.observe(link);
}

// ---------------------------------------------------------------- one message

async function open(link) {
  const there = await fragment(link.href);
  const article = there.querySelector('article.message');
  if (!article) {
    location.assign(link.href);
    return;
  }
  const close = make('button', 'Close', { type: 'button', class: 'close' });
  close.addEventListener('click', () => dialog.close());
  dialog.replaceChildren(close, document.adoptNode(article));
  enableCopy(dialog);
  dialog.showModal();
  dialog.querySelector('h1').focus();
}

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a.open, .members a');
  if (!link || !link.href || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  open(link).catch(() => location.assign(link.href));
});
dialog.addEventListener('click', (event) => {
  if (event.target === dialog) dialog.close();
});

// ---------------------------------------------------------------- the form

// Addresses are shorter without what is empty.
document.querySelector('form.search').addEventListener('formdata', (event) => {
  for (const name of new Set(event.formData.keys())) {
    const values = event.formData.getAll(name).filter((value) => value !== '');
    event.formData.delete(name);
    for (const value of values) event.formData.append(name, value);
  }
});
// A filter that has a value has room for another.
document.querySelector('form.search').addEventListener('change', (event) => {
  const values = event.target.closest?.('.values');
  if (!values || event.target !== values.lastElementChild || !event.target.value) return;
  const more = event.target.cloneNode();
  more.value = '';
  more.removeAttribute('id');
  more.removeAttribute('value');
  more.placeholder = 'or …';
  more.setAttribute('aria-label', `${values.parentElement.querySelector('label').textContent}, another value`);
  values.append(more);
});
if (matchMedia('(max-width: 820px)').matches) filters.open = false;

// ---------------------------------------------------------------- keys

function move(step) {
  const cards = [...list.querySelectorAll('.card')];
  const here = cards.indexOf(document.activeElement.closest('.card'));
  const card = cards[Math.min(cards.length - 1, Math.max(0, here + step))];
  if (!card) return;
  (card.querySelector('a.open') ?? card).focus();
  card.scrollIntoView({ block: 'nearest' });
}

const save = document.getElementById('save');
document.addEventListener('click', (event) => {
  if (save.open && !save.contains(event.target)) save.open = false;
});

const KEYS = {
  Escape: () => {
    if (save.contains(document.activeElement)) save.querySelector('summary').focus();
    save.open = false;
  },
  '/': () => document.getElementById('q').focus(),
  j: () => move(1),
  k: () => move(-1),
  l: toggle,
};
document.addEventListener('keydown', (event) => {
  const isTyping = event.target.closest('input, select, textarea');
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || (isTyping && event.key !== 'Escape')) return;
  if (event.key === 'Escape' && isTyping) event.target.blur();
  else if (event.key in KEYS) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

scrollEndlessly();
showChart().catch(() => {});
showFacets().catch(() => {});
