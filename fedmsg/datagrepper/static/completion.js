// SPDX-License-Identifier: LGPL-2.1-or-later
// What there is: completion of the filters, and the most frequent values beside the search.
import { address, harmless, make } from './shared/text.js';

const page = document.getElementById('search-page');
const KINDS = { topics: ['topic', 'Topics'], categories: ['category', 'Categories'], users: ['user', 'Users'], packages: ['package', 'Packages'], agents: ['agent', ''] };
const LIMIT = 100;
const SHOWN = 8;
const TYPING_MS = 200;

function complete(kind, values) {
  document.getElementById(`known-${kind}`).replaceChildren(...values.map(({ name }) => {
    const option = document.createElement('option');
    option.value = name;
    return option;
  }));
}

// Without the words that all topics of a bus begin with.
function shortTopic(topic) {
  const words = topic.split('.');
  return words.length > 3 ? words.slice(3).join('.') : topic;
}

function shown(kind, label, values) {
  const pairs = [...new URLSearchParams(page.dataset.query)];
  const list = document.createElement('ul');
  for (const { name, count } of values.slice(0, SHOWN)) {
    const item = document.createElement('li');
    const link = make('a', kind === 'topic' ? shortTopic(name) : name, { href: address(page.dataset.raw, [...pairs, [kind, name]]), title: harmless(name) });
    item.append(link, make('span', Number(count).toLocaleString('en'), { class: 'number' }));
    list.append(item);
  }
  return [make('h2', label), list];
}

// What is typed asks for the values that begin with it.
let typing = 0;
async function completeTyped(input) {
  const kind = input.closest('[data-filter]')?.dataset.filter;
  const plural = Object.keys(KINDS).find((one) => KINDS[one][0] === kind);
  if (!plural || !input.value) return;
  typing += 1;
  const turn = typing;
  const pairs = [['facet', plural], ['prefix', input.value], ['limit', LIMIT]];
  const answer = await fetch(address(page.dataset.facets, pairs), { headers: { Accept: 'application/json' } });
  if (turn !== typing || !answer.ok) return;
  complete(kind, (await answer.json())[plural]);
}

let pause = null;
document.querySelector('form.search').addEventListener('input', (event) => {
  clearTimeout(pause);
  pause = setTimeout(() => completeTyped(event.target).catch(() => {}), TYPING_MS);
});

/** Ask what there is, and show it. */
export async function showFacets() {
  const asked = new URLSearchParams(page.dataset.query);
  asked.set('limit', LIMIT);
  const answer = await fetch(`${page.dataset.facets}?${asked}`, { headers: { Accept: 'application/json' } });
  if (!answer.ok) return;
  const found = await answer.json();
  const panel = document.getElementById('facets');
  for (const [plural, [kind, label]] of Object.entries(KINDS)) {
    const values = Array.isArray(found[plural]) ? found[plural] : [];
    if (!values.length) continue;
    complete(kind, values);
    if (!label) continue;
    panel.append(...shown(kind, label, values));
    panel.hidden = false;
  }
}
