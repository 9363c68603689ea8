/** The workers of the tenant: what they run, and the commands that an operator can send them. */

import { link } from "./address.js";
import { byId, copyOf, reconcile, setAttribute, setHidden, setText } from "./dom.js";
import { showFacts } from "./job.js";
import { showState } from "./jobs.js";
import { clock, day, duration } from "./text.js";

const STATES = { UP: "Up", PAUSED: "Paused", DRAINING: "Draining", DOWN: "Down" };

/** A worker publishes its state each minute. After this time it counts as silent. */
const SILENT = 150_000;

const DAY = 86_400_000;

export class Workers {
  /** `act` sends a command and reports what came of it. */
  constructor(api, { act, roles }) {
    Object.assign(this, { api, act, roles });
    this.changed = new WeakSet();
  }

  /** Fetches and shows the workers. */
  async refresh(signal) {
    const value = await this.api.get("workers", signal);
    signal.throwIfAborted();

    const workers = value.workers.slice(0, 500);
    setHidden(byId("workers-empty"), workers.length > 0);
    setText(byId("workers-empty"), "No worker has connected yet.");
    reconcile(byId("workers"), workers, {
      key: (worker) => worker.worker,
      create: (worker) => this.create(worker.worker),
      update: (element, worker) => this.show(element, worker),
      fallback: byId("workers-title"),
    });
  }

  create(name) {
    const element = copyOf("worker-template");
    const path = `workers/${encodeURIComponent(name)}`;
    for (const button of element.querySelectorAll("[data-command]")) {
      const command = button.dataset.command;
      setAttribute(button, "aria-label", `${button.textContent} ${name}`);
      button.addEventListener("click", () =>
        this.act(() => this.api.send("POST", `${path}/${command}`, {}), `Asked ${name} to ${command}.`),
      );
    }

    const form = element.querySelector("form");
    const input = form.elements.concurrency;
    setAttribute(input, "aria-label", `Jobs at once on ${name}`);
    input.addEventListener("input", () => this.changed.add(input));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (form.reportValidity() && input.value) this.setConcurrency(path, name, input);
    });
    return element;
  }

  async setConcurrency(path, name, input) {
    const concurrency = Number(input.value);
    const send = () => this.api.send("PUT", `${path}/concurrency`, { concurrency });
    if (await this.act(send, `Asked ${name} to run ${concurrency} jobs at once.`)) this.changed.delete(input);
  }

  show(element, worker) {
    setText(element.querySelector("h3"), worker.worker);
    showState(element.querySelector(".state"), worker.state, STATES);
    showFacts(element.querySelector("dl"), factsOf(worker, this.api.now()));

    const jobs = worker.jobs ?? [];
    setHidden(element.querySelector(".running"), jobs.length === 0);
    reconcile(element.querySelector(".running ul"), jobs.slice(0, 50), {
      key: (jobId) => jobId,
      create: () => {
        const item = document.createElement("li");
        item.append(document.createElement("a"));
        return item;
      },
      update: (item, jobId) => {
        setAttribute(item.firstElementChild, "href", link({}, { job: jobId }));
        setText(item.firstElementChild, jobId.slice(0, 8));
      },
      fallback: byId("workers-title"),
    });
    this.showCommands(element.querySelector("form"), worker);
  }

  showCommands(form, worker) {
    setHidden(form, !this.roles().includes("operator"));
    const isDown = worker.state === "DOWN";
    const pause = form.querySelector("[data-command=pause]");
    const resume = form.querySelector("[data-command=resume]");
    const hadFocus = [pause, resume].includes(document.activeElement);
    setHidden(pause, worker.state === "PAUSED");
    setHidden(resume, worker.state !== "PAUSED");
    if (hadFocus) (pause.hidden ? resume : pause).focus();

    for (const control of form.elements) control.disabled = isDown;
    const input = form.elements.concurrency;
    const isInUse = document.activeElement === input || this.changed.has(input);
    const concurrency = String(worker.concurrency ?? "");
    if (!isInUse && input.value !== concurrency) input.value = concurrency;
  }
}

function factsOf(worker, now) {
  const silence = now - Date.parse(worker.at);
  const isSilent = silence > SILENT && worker.state !== "DOWN";
  return [
    ["Slots", `${worker.running ?? "?"} of ${worker.concurrency ?? "?"} busy, ${worker.waiting ?? "?"} waiting`],
    ["Kinds", (worker.kinds ?? []).join(", ")],
    ["Group", worker.group],
    ["Version", worker.version],
    ["Certificate", certificateOf(worker.certificateEnds, now)],
    [isSilent ? "Silent since" : "Last message", isSilent ? `${clock(worker.at, now)}. Its state may be out of date` : clock(worker.at, now)],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

function certificateOf(ends, now) {
  if (!ends) return null;
  const left = Date.parse(ends) - now;
  if (left <= 0) return `ended on ${day(ends)}`;
  return left < DAY ? `ends in ${duration(left)}` : `ends on ${day(ends)}, in ${Math.floor(left / DAY)} days`;
}
