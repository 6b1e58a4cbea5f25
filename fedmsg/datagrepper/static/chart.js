// SPDX-License-Identifier: LGPL-2.1-or-later
// The chart of how many messages there were, and the zoom: by pointer or by keys.
import { shape, written } from './shared/drawing.js';
import { make } from './shared/text.js';

const WIDTH = 1000;
const HEIGHT = 100;
const BUCKETS = 60;
const TICKS = 5;

const page = document.getElementById('search-page');
const section = document.getElementById('chart');

function counted(number) {
  return `${number.toLocaleString('en')} message${number === 1 ? '' : 's'}`;
}

class Chart {
  constructor(start, step, counts) {
    Object.assign(this, { start, step, counts, from: counts.length - 1, to: counts.length - 1, isDragging: false });
    this.read = make('span', '', { class: 'read' });
    this.plot = make('div', '', {
      class: 'plot', role: 'slider', tabindex: '0', 'aria-label': 'Time; arrows move, Shift and arrows choose a range, Enter shows it',
      'aria-valuemin': '0', 'aria-valuemax': String(counts.length - 1),
    });
    this.svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    this.groups = counts.map((count, index) => this.bar(count, index));
    this.svg.append(...this.groups, shape('line', { class: 'base', x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT, 'vector-effect': 'non-scaling-stroke' }));
    this.plot.append(this.svg);
    this.listen();
  }

  bar(count, index) {
    const width = WIDTH / this.counts.length;
    const most = Math.max(1, ...this.counts);
    // One message is seen beside a million, too.
    const height = count ? Math.max(2, (count / most) * (HEIGHT - 4)) : 0;
    const group = shape('g', {});
    group.append(
      shape('rect', { class: 'area-of', x: index * width, y: 0, width, height: HEIGHT }),
      shape('rect', { class: 'bar-of', x: index * width + width * 0.1, y: HEIGHT - height, width: width * 0.8, height }),
    );
    return group;
  }

  range() {
    const [first, last] = [Math.min(this.from, this.to), Math.max(this.from, this.to)];
    return { first, last, start: this.start + first * this.step, end: this.start + (last + 1) * this.step };
  }

  choose(from, to) {
    const limit = (index) => Math.min(this.counts.length - 1, Math.max(0, index));
    [this.from, this.to] = [limit(from), limit(to)];
    const { first, last, start, end } = this.range();
    this.groups.forEach((group, index) => group.classList.toggle('is-chosen', index >= first && index <= last));
    const total = this.counts.slice(first, last + 1).reduce((sum, count) => sum + count, 0);
    const text = `${written(start, this.step)} to ${written(end, this.step)}: ${counted(total)}`;
    this.read.textContent = text;
    this.plot.setAttribute('aria-valuenow', String(this.to));
    this.plot.setAttribute('aria-valuetext', text);
  }

  rest() {
    for (const group of this.groups) group.classList.remove('is-chosen');
    const total = this.counts.reduce((sum, count) => sum + count, 0);
    this.read.textContent = `${counted(total)}, one bar is ${duration(this.step)}`;
    this.plot.setAttribute('aria-valuenow', String(this.to));
    this.plot.setAttribute('aria-valuetext', this.read.textContent);
  }

  zoom() {
    const { start, end } = this.range();
    const asked = new URLSearchParams(page.dataset.query);
    asked.delete('delta');
    for (const [name, value] of [['start', start], ['end', end]]) asked.set(name, new Date(value * 1000).toISOString().slice(0, 19));
    location.assign(`${page.dataset.raw}?${asked}`);
  }

  at(event) {
    const box = this.plot.getBoundingClientRect();
    return Math.floor(((event.clientX - box.left) / box.width) * this.counts.length);
  }

  listen() {
    const { plot } = this;
    plot.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      this.isDragging = true;
      plot.setPointerCapture(event.pointerId);
      this.choose(this.at(event), this.at(event));
    });
    plot.addEventListener('pointermove', (event) => {
      const here = this.at(event);
      this.choose(this.isDragging ? this.from : here, here);
    });
    plot.addEventListener('pointerup', () => {
      if (this.isDragging) this.zoom();
      this.isDragging = false;
    });
    plot.addEventListener('pointercancel', () => { this.isDragging = false; this.rest(); });
    plot.addEventListener('pointerleave', () => { if (!this.isDragging) this.rest(); });
    plot.addEventListener('focus', () => { if (!this.isDragging && plot.matches(':focus-visible')) this.choose(this.from, this.to); });
    plot.addEventListener('blur', () => this.rest());
    plot.addEventListener('keydown', (event) => this.key(event));
  }

  key(event) {
    const places = { ArrowLeft: this.to - 1, ArrowDown: this.to - 1, ArrowRight: this.to + 1, ArrowUp: this.to + 1, Home: 0, End: this.counts.length - 1 };
    if (event.key in places) this.choose(event.shiftKey ? this.from : places[event.key], places[event.key]);
    else if (event.key === 'Enter') this.zoom();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function duration(seconds) {
  for (const [size, name] of [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']]) {
    const many = Math.round((seconds / size) * 10) / 10;
    if (many >= 1) return many === 1 ? `one ${name}` : `${many} ${name}s`;
  }
  return `${seconds} seconds`;
}

function ticks(chart) {
  const row = make('div', '', { class: 'ticks', 'aria-hidden': 'true' });
  const length = chart.step * chart.counts.length;
  for (let index = 0; index < TICKS; index += 1) {
    row.append(make('span', written(chart.start + (length * index) / (TICKS - 1), chart.step)));
  }
  return row;
}

/** Ask how many messages there were over time, and draw it. */
export async function showChart() {
  const asked = new URLSearchParams(page.dataset.query);
  asked.set('buckets', BUCKETS);
  const answer = await fetch(`${page.dataset.histogram}?${asked}`, { headers: { Accept: 'application/json' } });
  if (!answer.ok) return;
  const found = await answer.json();
  const counts = found.series[0].counts;
  if (counts.length < 2 || !found.total) return;
  const chart = new Chart(found.times[0], found.bucket, counts);
  const head = make('div', '', { class: 'head' });
  head.append(chart.read, make('span', 'times in UTC', { class: 'most' }));
  section.append(head, chart.plot, ticks(chart));
  section.hidden = false;
  chart.rest();
}
