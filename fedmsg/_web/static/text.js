// SPDX-License-Identifier: LGPL-2.1-or-later
// What a message says is text: it reaches a page by these functions alone.

// What acts unseen, or turns the direction of what follows, is spelt out.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;

/** Return text without characters that act on a page. */
export function harmless(value, limit = 300) {
  const text = String(value ?? '');
  const cut = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return cut.replace(UNSEEN, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Make an element with text in it. */
export function make(tag, text = '', attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = harmless(text);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Return an address where it is one of the web, else null. */
export function webLink(value) {
  try {
    const address = new URL(value);
    return ['http:', 'https:'].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

/** Return an address with arguments added to it. */
export function address(base, pairs) {
  return `${base}?${new URLSearchParams(pairs)}`;
}
