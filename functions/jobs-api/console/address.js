/**
 * The page's address holds the view, the filters and the chosen job, so that each of them can be linked, reloaded and gone
 * back to.
 */

const NAMES = ["view", "state", "within", "from", "to", "cursor", "job"];

/** What the address says. A name that is not there has the empty text. */
export function readAddress(search = location.search) {
  const parameters = new URLSearchParams(search);
  return Object.fromEntries(NAMES.map((name) => [name, parameters.get(name) ?? ""]));
}

/** The address with some of its members changed, as a relative link. */
export function link(address, changes) {
  const parameters = new URLSearchParams();
  for (const name of NAMES) {
    const value = { ...address, ...changes }[name];
    if (value) parameters.set(name, value);
  }
  return `?${parameters}`;
}

const HOUR = 3_600_000;
const WITHIN = { "1h": HOUR, "24h": 24 * HOUR, "7d": 168 * HOUR };

/** The API's path of the list that the address asks for. Times are whole minutes, so that the path, and with it the ETag, lasts. */
export function listPath(address, now) {
  const parameters = new URLSearchParams({ limit: 50 });
  const within = WITHIN[address.within];
  const from = within ? new Date(Math.floor((now - within) / 60_000) * 60_000).toISOString() : address.from;
  const values = { state: address.state, from, to: within ? "" : address.to, cursor: address.cursor };
  for (const [name, value] of Object.entries(values)) if (value) parameters.set(name, value);
  return `jobs?${parameters}`;
}
