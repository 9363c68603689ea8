/**
 * Small changes of the page. Everything that comes from elsewhere goes through `textContent`: no string becomes markup.
 */

import { oneLine } from "./text.js";

export function byId(id) {
  return document.getElementById(id);
}

/** Sets the text of an element, and only where it differs: a screen reader repeats what is written again. */
export function setText(element, text) {
  const shown = oneLine(text);
  if (element.textContent !== shown) element.textContent = shown;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** The first element of a template's copy. */
export function copyOf(template) {
  return byId(template).content.firstElementChild.cloneNode(true);
}

/**
 * Makes the children of `list` those of `items`, in their order. An element is kept as long as its key is there, so that
 * it keeps the focus. Where the focused element goes away, the focus moves to its successor, or to `fallback`.
 */
export function reconcile(list, items, { key, create, update, fallback }) {
  const kept = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const wanted = new Set(items.map((item) => String(key(item))));
  const focused = [...list.children].find((element) => element.contains(document.activeElement));
  const position = focused ? [...list.children].indexOf(focused) : -1;
  for (const [name, element] of kept) if (!wanted.has(name)) element.remove();

  let place = list.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let element = kept.get(name);
    if (!element) {
      element = create(item);
      element.dataset.key = name;
    }
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
    update(element, item);
  }

  if (focused && !focused.isConnected) {
    const successor = list.children[Math.min(position, list.children.length - 1)];
    (successor?.querySelector("a, button") ?? fallback)?.focus();
  }
}

/**
 * Makes the children of `list` one `div` for each line. Lines that stay keep their elements, and with them the reader's
 * selection. A reader at the end stays at the end.
 */
export function setLines(list, lines) {
  const shown = [...list.children].map((element) => element.textContent);
  const wanted = lines.map((line) => oneLine(line));
  let dropped = 0;
  while (dropped < shown.length && !startsWith(wanted, shown, dropped)) dropped += 1;
  if (dropped === 0 && wanted.length === shown.length) return;

  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  for (const element of [...list.children].slice(0, dropped)) element.remove();
  for (const line of wanted.slice(shown.length - dropped)) {
    const element = document.createElement("div");
    element.textContent = line;
    list.append(element);
  }
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

/** Whether `lines` begins with what is left of `shown` after `dropped` lines. */
function startsWith(lines, shown, dropped) {
  const left = shown.length - dropped;
  if (left > lines.length) return false;
  for (let n = 0; n < left; n += 1) if (lines[n] !== shown[dropped + n]) return false;
  return true;
}
