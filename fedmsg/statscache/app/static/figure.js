// SPDX-License-Identifier: LGPL-2.1-or-later
// Draws what the server answers for a chart: numbers by time, a ranking, or texts.
import { shape, written } from './shared/drawing.js';
import { make } from './shared/text.js';

const WIDTH = 1000;
const HEIGHT = 200;
const COLOURS = 8;
const TICKS = 4;

function counted(number) {
  return number.toLocaleString('en', { maximumFractionDigits: 2 });
}

function short(number) {
  return number.toLocaleString('en', { notation: 'compact', maximumFractionDigits: 1 });
}

/** Return a round number that is not below another. */
function above(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 4, 5, 10].map((factor) => factor * power).find((round) => round >= number);
}

class Bars {
  constructor({ times, step, series }, name, chosen) {
    Object.assign(this, { times, series, step: step ?? 1 });
    const sums = times.map((_, index) => series.reduce((sum, one) => sum + Math.max(0, one.values[index]), 0));
    this.most = above(Math.max(...sums, 1));
    this.chosen = chosen;
    this.read = make('p', '', { class: 'read' });
    this.svg = shape('svg', {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'slider', tabindex: '0',
      'aria-label': `${name}: arrows move through the times`, 'aria-valuemin': 0, 'aria-valuemax': times.length - 1,
    });
    const line = (y, kind) => shape('line', { class: kind, x1: 0, x2: WIDTH, y1: y, y2: y, 'vector-effect': 'non-scaling-stroke' });
    this.groups = times.map((_, index) => this.bar(index));
    this.svg.append(line(0.5, 'grid'), line(HEIGHT / 2, 'grid'), ...this.groups, line(HEIGHT, 'base'));
    this.listen();
    this.choose(chosen);
  }

  bar(index) {
    const width = WIDTH / this.times.length;
    const group = shape('g', {});
    group.append(shape('rect', { class: 'area', x: index * width, y: 0, width, height: HEIGHT }));
    let top = HEIGHT;
    this.series.forEach((one, place) => {
      const height = (Math.max(0, one.values[index]) / this.most) * HEIGHT;
      top -= height;
      if (height) group.append(shape('rect', { class: `c${place % COLOURS}`, x: index * width + width * 0.08, y: top, width: width * 0.84, height }));
    });
    return group;
  }

  choose(index) {
    const last = this.times.length - 1;
    this.chosen = index === null ? null : Math.min(last, Math.max(0, index));
    const shown = this.chosen ?? last;
    this.groups.forEach((group, place) => group.classList.toggle('is-chosen', place === this.chosen));
    const numbers = this.series.map((one) => [one.name, one.values[shown]]).filter(([, number], place) => number || place === 0);
    const text = this.series.length === 1 ? counted(numbers[0][1]) : numbers.map(([name, number]) => `${name} ${counted(number)}`).join(', ');
    this.read.textContent = '';
    this.read.append(make('bdi', `${written(this.times[shown], this.step)}: ${text}`));
    this.svg.setAttribute('aria-valuenow', shown);
    this.svg.setAttribute('aria-valuetext', this.read.textContent);
  }

  listen() {
    const { svg } = this;
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      return Math.floor(((event.clientX - box.left) / box.width) * this.times.length);
    };
    svg.addEventListener('pointermove', (event) => this.choose(at(event)));
    svg.addEventListener('pointerleave', () => this.choose(null));
    svg.addEventListener('blur', () => this.choose(null));
    svg.addEventListener('keydown', (event) => {
      const here = this.chosen ?? this.times.length - 1;
      const places = { ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1, Home: 0, End: this.times.length - 1 };
      if (event.key === 'Escape') this.choose(null);
      else if (event.key in places) this.choose(places[event.key]);
      else return;
      event.preventDefault();
    });
  }

  parts() {
    const plot = make('div', '', { class: 'plot' });
    const scale = make('div', '', { class: 'scale', 'aria-hidden': 'true' });
    scale.append(...[this.most, this.most / 2, 0].map((number) => make('span', short(number))));
    plot.append(scale, this.svg);
    const ticks = make('div', '', { class: 'ticks', 'aria-hidden': 'true' });
    const shown = Math.min(TICKS, this.times.length);
    for (let tick = 0; tick < shown; tick += 1) {
      const index = shown === 1 ? 0 : Math.round(((this.times.length - 1) * tick) / (shown - 1));
      ticks.append(make('span', written(this.times[index], this.step).slice(this.step < 86400 ? 5 : 0)));
    }
    return [this.read, plot, ticks, ...(this.series.length > 1 ? [this.legend()] : [])];
  }

  legend() {
    const list = make('ul', '', { class: 'legend' });
    list.append(...this.series.map((one, place) => {
      const row = make('li');
      const colour = shape('svg', { viewBox: '0 0 10 10', 'aria-hidden': 'true' });
      colour.append(shape('rect', { class: `c${place % COLOURS}`, width: 10, height: 10, rx: 2 }));
      row.append(colour, make('bdi', one.name), make('span', counted(one.values.reduce((sum, number) => sum + number, 0)), { class: 'number' }));
      return row;
    }));
    return list;
  }
}

function ranking({ ranks }) {
  const most = Math.max(...ranks.map(([, number]) => number), 1);
  const list = make('ol', '', { class: 'ranks' });
  list.append(...ranks.map(([name, number]) => {
    const row = make('li');
    const bar = shape('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    bar.append(shape('rect', { class: 'c0', width: Math.max(0.5, (Math.max(0, number) / most) * 100), height: 10 }));
    row.append(make('bdi', name), bar, make('span', counted(number), { class: 'number' }));
    return row;
  }));
  return list;
}

function log({ texts }) {
  const list = make('ol', '', { class: 'texts' });
  list.append(...texts.map(([seconds, ...words]) => {
    const row = make('li');
    row.append(make('time', written(seconds, 1)), make('bdi', words.join(' ')));
    return row;
  }));
  return list;
}

const charts = new WeakMap();

/** Draw a chart at a place of the page, in place of what is there. */
export function draw(place, chart) {
  const before = charts.get(place);
  const isFocused = before && document.activeElement === before.svg;
  charts.delete(place);
  if (chart.kind === 'times' && chart.times.length) {
    const bars = new Bars(chart, place.dataset.name, isFocused ? before.chosen : null);
    charts.set(place, bars);
    place.replaceChildren(...bars.parts());
    if (isFocused) bars.svg.focus();
  } else if (chart.kind === 'ranks') place.replaceChildren(ranking(chart));
  else if (chart.kind === 'texts') place.replaceChildren(log(chart));
  else place.replaceChildren(make('p', 'Nothing has been counted yet.', { class: 'nothing' }));
}
