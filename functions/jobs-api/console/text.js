/**
 * Text for people: control characters made visible, JSON indented, times and durations. It does not touch the page.
 */

/** Terminal escapes, line separators, and marks that reorder or hide text. Tab and newline are not among them. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The deepest level of JSON that is indented further. An input of a thousand brackets stays readable in memory. */
const DEEPEST = 32;

/** The text with each control character as a symbol, so that it shows what it holds and does nothing. */
export function visible(text) {
  return String(text ?? "").replace(HIDDEN, (character) => symbol(character.codePointAt(0)));
}

/** The same for text that must stay on one line. */
export function oneLine(text) {
  return visible(text).replaceAll("\n", "␊").replaceAll("\t", "␉");
}

function symbol(code) {
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** JSON with line breaks and indentation. It keeps each token as it is, because a parser would round long numbers. */
export function indentJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }

  let depth = 0;
  let previous = "";
  let result = "";
  const line = () => `\n${"  ".repeat(Math.min(depth, DEEPEST))}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const isEmpty = (token === "}" || token === "]") && (previous === "{" || previous === "[");
    if (token === "}" || token === "]") {
      depth -= 1;
      if (!isEmpty) result += line();
    } else if (previous === "{" || previous === "[" || previous === ",") {
      result += line();
    }
    if (token === "{" || token === "[") depth += 1;
    result += token === ":" ? ": " : token;
    previous = token;
  }
  return result;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** A time of day, with the date where it is another day than `now`. */
export function clock(value, now = Date.now()) {
  const date = new Date(value);
  if (value === null || value === undefined || Number.isNaN(date.getTime())) return "–";
  const time = CLOCK.format(date);
  return date.toDateString() === new Date(now).toDateString() ? time : `${DAY.format(date)}, ${time}`;
}

export function day(value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? "–" : DAY.format(date);
}

/** A duration in its two largest units: `3 m 12 s`. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = units.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [size, name] = units[first];
  const large = `${Math.floor(seconds / size)} ${name}`;
  const [small, smallName] = units[first + 1] ?? [0, ""];
  const rest = small ? Math.floor((seconds % size) / small) : 0;
  return rest ? `${large} ${rest} ${smallName}` : large;
}
