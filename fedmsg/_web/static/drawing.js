// SPDX-License-Identifier: LGPL-2.1-or-later
// What charts are made of.

const SVG = 'http://www.w3.org/2000/svg';

/** Make an element of SVG. */
export function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Write a time in UTC, as exact as the steps between such times. */
export function written(seconds, step) {
  const iso = new Date(seconds * 1000).toISOString();
  if (step >= 86400) return iso.slice(0, 10);
  return `${iso.slice(0, 10)} ${iso.slice(11, step >= 60 ? 16 : 19)}`;
}
