// SPDX-License-Identifier: LGPL-2.1-or-later
// Cards of messages that come live: copies of the one in the page's template.
import { address, harmless, webLink } from './shared/text.js';

const page = document.getElementById('search-page');
const template = document.getElementById('card-template');
const MOST_NAMES = 12;
const HUES = 8;

function fillNames(card, kind, values) {
  const list = card.querySelector(`[data-list="${kind}"]`);
  if (!list) return;
  const sample = list.querySelector('a');
  list.textContent = '';
  const names = Array.isArray(values) ? values.filter((one) => typeof one === 'string' && one) : [];
  for (const name of names.slice(0, MOST_NAMES)) {
    const link = sample.cloneNode(true);
    link.querySelector('bdi').textContent = harmless(name, 200);
    link.href = address(page.dataset.raw, [[kind, name]]);
    list.append(link);
  }
  if (!names.length) list.remove();
}

function when(seconds) {
  const moment = new Date(typeof seconds === 'number' ? seconds * 1000 : NaN);
  return Number.isNaN(moment.getTime()) || moment.getTime() < 0 ? '' : moment.toISOString();
}

/** Return the card of a message. */
export function cardOf(message) {
  const meta = message.meta ?? {};
  const card = template.content.querySelector('.card').cloneNode(true);
  const part = (name) => card.querySelector(`[data-part="${name}"]`);
  const id = String(message.msg_id ?? '');
  card.dataset.id = id;
  const open = part('text');
  open.querySelector('bdi').textContent = harmless(meta.subtitle || meta.summary || meta.title || message.topic);
  if (id) open.href = address(page.dataset.one, [['id', id]]);
  else open.removeAttribute('href');
  const iso = when(message.timestamp);
  if (iso) {
    part('when').dateTime = iso;
    part('when').textContent = iso.slice(0, 19).replace('T', ' ');
    part('when').removeAttribute('title');
  } else part('when').remove();
  fillNames(card, 'topic', [message.topic]);
  fillNames(card, 'user', meta.usernames);
  fillNames(card, 'package', meta.packages);
  const link = part('link');
  if (link) {
    const there = webLink(meta.link);
    if (there) link.href = there;
    else link.remove();
  }
  const badge = part('badge');
  if (badge) {
    const category = String(message.topic ?? '').split('.')[3] ?? '';
    badge.className = `badge hue-${[...category].reduce((sum, one) => sum + one.codePointAt(0), 0) % HUES}`;
    badge.textContent = harmless([...category].slice(0, 2).join(''));
  }
  card.querySelector('.more')?.remove();
  card.classList.add('fresh');
  return card;
}
