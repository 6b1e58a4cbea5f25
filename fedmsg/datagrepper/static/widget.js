// SPDX-License-Identifier: LGPL-2.1-or-later
// Shows messages on a page of another site. Its tag says which: data-user, data-package, data-category, data-topic,
// data-grouped, data-order, data-rows_per_page, data-page, data-size. All that messages say becomes text nodes.
(() => {
  'use strict';
  const tag = document.getElementById('datagrepper-widget') || document.currentScript;
  if (!tag) return;
  const here = new URL(tag.src, document.baseURI);
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;
  const LISTS = ['user', 'package', 'category', 'topic'];
  const SINGLE = ['grouped', 'order', 'rows_per_page', 'page', 'size'];
  const META = 'title,subtitle,summary,link,date';

  const data = (name) => tag.getAttribute(`data-${name}`) || '';
  const small = data('size') === 'small';
  const large = data('size') === 'large' || data('size') === 'extra-large';

  function text(value) {
    const found = String(value == null ? '' : value);
    return (found.length > 300 ? `${found.slice(0, 300)}…` : found).replace(UNSEEN, '\ufffd');
  }

  function make(name, value, className) {
    const made = document.createElement(name);
    if (value !== undefined) made.appendChild(document.createTextNode(text(value)));
    if (className) made.className = className;
    return made;
  }

  function webLink(value) {
    try {
      const found = new URL(value);
      return ['http:', 'https:'].includes(found.protocol) ? found.href : '';
    } catch {
      return '';
    }
  }

  function addressOf(name, pairs) {
    const address = new URL(name, here);
    address.search = String(new URLSearchParams(pairs));
    return address.href;
  }

  function item(message) {
    const meta = message.meta || message;
    const row = make('li');
    const body = make('div');
    const line = make('p');
    const words = meta.subtitle || meta.summary || meta.title || message.topic;
    const address = message.msg_id ? addressOf('id', [['id', message.msg_id]]) : webLink(meta.link);
    const link = make(address ? 'a' : 'span', words);
    if (address) {
      link.href = address;
      link.rel = 'noopener';
    }
    line.appendChild(link);
    body.appendChild(line);
    if (!small) body.appendChild(make('p', [meta.date || meta.human_time, message.topic].filter(Boolean).join(' · '), 'datagrepper-facts'));
    const there = webLink(meta.link);
    if (large && there && there !== address) {
      const more = make('a', 'Web page');
      more.href = there;
      more.rel = 'noopener noreferrer nofollow';
      body.appendChild(more);
    }
    row.appendChild(body);
    return row;
  }

  const list = make('ul', undefined, `datagrepper-widget datagrepper-${data('size') || 'large'}`.replace(/[^\w -]/g, ''));

  function show(answer) {
    list.textContent = '';
    for (const message of answer.raw_messages || []) list.appendChild(item(message));
    if (!list.firstChild) list.appendChild(make('li', 'No messages.'));
  }

  const pairs = [];
  for (const name of LISTS) {
    for (const value of data(name).split(',')) if (value.trim()) pairs.push([name, value.trim()]);
  }
  for (const name of SINGLE) if (data(name)) pairs.push([name, data(name)]);
  for (const name of META.split(',')) pairs.push(['meta', name]);

  if (here.searchParams.get('css') === 'true') {
    const style = make('link');
    style.rel = 'stylesheet';
    style.href = addressOf('static/widget.css', []);
    document.head.appendChild(style);
  }
  tag.parentNode.insertBefore(list, tag.nextSibling);

  // A script, because it works on every site; one that answers by another type is not run.
  const callback = 'datagrepper_widget_show';
  window[callback] = show;
  const script = make('script');
  script.src = addressOf('raw', [...pairs, ['callback', callback]]);
  script.addEventListener('error', () => list.appendChild(make('li', 'The messages could not be read.')));
  script.addEventListener('load', () => script.remove());
  document.head.appendChild(script);
})();
