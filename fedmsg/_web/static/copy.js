// SPDX-License-Identifier: LGPL-2.1-or-later
// Buttons that copy a line.

/** Make the buttons of a part of the page work. */
export function enableCopy(root = document) {
  for (const button of root.querySelectorAll('button.copy')) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener('click', async () => {
      const text = button.parentElement.querySelector('code').textContent;
      await navigator.clipboard.writeText(text);
      button.firstChild.data = 'Copied';
      setTimeout(() => { button.firstChild.data = 'Copy'; }, 1500);
    });
  }
}

enableCopy();
