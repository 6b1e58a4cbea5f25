// SPDX-License-Identifier: LGPL-2.1-or-later
// The charts of a page: they are asked for again and again, as long as the page can be seen.
import { draw } from './figure.js';
import { make } from './shared/text.js';

const EVERY_MS = 5000;
const LONGEST_WAIT_MS = 60000;

const drawings = [...document.querySelectorAll('[data-chart]')].map((place) => ({ place, text: '' }));
const rows = document.getElementById('rows');
let failures = 0;

async function ask(address) {
  const answer = await fetch(address, { headers: { Accept: 'application/json' } });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.text();
}

async function show(drawing) {
  const text = await ask(drawing.place.dataset.chart);
  drawing.place.querySelector('.lost')?.remove();
  if (text === drawing.text) return;
  drawing.text = text;
  draw(drawing.place, JSON.parse(text));
}

function cell(name, value) {
  if (name === 'timestamp') return new Date(value * 1000).toISOString().slice(0, 19).replace('T', ' ');
  return typeof value === 'number' ? value.toLocaleString('en') : value;
}

let shownRows = '';

async function showRows() {
  const text = await ask(rows.dataset.rows);
  if (text === shownRows) return;
  shownRows = text;
  const names = [...rows.tHead.rows[0].cells].map((head) => head.textContent);
  rows.tBodies[0].replaceChildren(...JSON.parse(text).map((row) => {
    const line = make('tr');
    for (const name of names) {
      const found = make('td');
      found.append(make('bdi', cell(name, row[name])));
      line.append(found);
    }
    return line;
  }));
  const empty = document.getElementById('empty');
  if (empty) empty.hidden = rows.tBodies[0].rows.length > 0;
}

function lost(place) {
  if (!place.querySelector('.lost')) place.append(make('p', 'The newest numbers can not be read now.', { class: 'lost', role: 'status' }));
}

/** Bring the page up to date, one chart after the other, and do so again later. */
async function update() {
  let failed = false;
  if (!document.hidden) {
    for (const drawing of drawings) {
      try {
        await show(drawing);
      } catch {
        failed = true;
        lost(drawing.place);
      }
    }
    if (rows) await showRows().catch(() => { failed = true; });
  }
  failures = failed ? failures + 1 : 0;
  setTimeout(update, Math.min(LONGEST_WAIT_MS, EVERY_MS * 2 ** Math.min(failures, 8)));
}

update();
