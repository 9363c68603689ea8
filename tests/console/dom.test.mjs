// The two functions that change lists in place, with random lists, in a real document.

import assert from "node:assert/strict";

import { test } from "./world.mjs";

// Small pseudo-random numbers from a seed, so that a failure can be repeated.
const GENERATOR = `
  const generator = (state) => (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
`;

test("a list becomes what it should be, whatever it was, and keeps the elements and the focus", async ({ open }) => {
  const page = await open(null);
  const failure = await page.run(`import("/dom.js").then(({ reconcile }) => {
    ${GENERATOR}
    const list = document.body.appendChild(document.createElement("ul"));
    const create = () => {
      const item = document.createElement("li");
      item.append(document.createElement("button"));
      return item;
    };
    const update = (item, key) => (item.firstElementChild.textContent = key);
    for (let seed = 1; seed <= 500; seed += 1) {
      const pick = generator(seed);
      list.replaceChildren();
      for (let step = 0; step < 8; step += 1) {
        const before = new Map([...list.children].map((item) => [item.dataset.key, item]));
        const focused = list.children[pick(list.children.length + 1)];
        focused?.firstElementChild.focus();
        // Newer jobs come first, so those that stay keep their order.
        const wanted = Array.from({ length: 12 }, (_, n) => String(11 - n + step)).filter(() => pick(3) > 0);
        reconcile(list, wanted, { key: (key) => key, create, update, fallback: null });

        const where = "seed " + seed + ", step " + step;
        if ([...list.children].map((item) => item.textContent).join() !== wanted.join()) return where + ": other items";
        if (wanted.some((key) => before.has(key) && !before.get(key).isConnected)) return where + ": an element was made anew";
        if (focused?.isConnected && !focused.contains(document.activeElement)) return where + ": the focus was lost";
        if (focused && !focused.isConnected && wanted.length && !list.contains(document.activeElement)) return where + ": the focus went nowhere";
      }
    }
    list.remove();
    return null;
  })`);
  assert.equal(failure, null);
});

test("a log becomes the lines that it should be, and those that stay keep their elements", async ({ open }) => {
  const page = await open(null);
  const failure = await page.run(`import("/dom.js").then(({ setLines }) => {
    ${GENERATOR}
    const list = document.body.appendChild(document.createElement("div"));
    for (let seed = 1; seed <= 500; seed += 1) {
      const pick = generator(seed);
      let lines = [];
      list.replaceChildren();
      for (let step = 0; step < 10; step += 1) {
        const before = [...list.children];
        // Few different lines, so that a log often looks like a shifted one.
        const more = Array.from({ length: pick(4) }, () => "line " + pick(3));
        const dropped = pick(8) === 0 ? lines.length : pick(Math.min(3, lines.length + 1));
        lines = [...lines.slice(dropped), ...more];
        setLines(list, lines);

        const where = "seed " + seed + ", step " + step;
        if ([...list.children].map((line) => line.textContent).join() !== lines.join()) return where + ": other lines";
        if (dropped === 0 && before.some((line) => !line.isConnected)) return where + ": a line was made anew";
      }
    }
    list.remove();
    return null;
  })`);
  assert.equal(failure, null);
});
