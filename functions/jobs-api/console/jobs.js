/**
 * The list of jobs and its filters. One page of the list is in the document at a time, however long the page stays open.
 */

import { link, listPath } from "./address.js";
import { byId, copyOf, reconcile, setAttribute, setHidden, setText } from "./dom.js";
import { clock, duration } from "./text.js";

export const STATES = {
  DISPATCHED: "Dispatched",
  ACCEPTED: "Accepted",
  SUCCEEDED: "Succeeded",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
  TIMED_OUT: "Timed out",
};

/** What a job is called: by its author, by its state machine, or by its id. */
export function nameOf(job) {
  return job.name || job.stateName || job.kind || job.jobId;
}

export function isOpen(job) {
  return job.state === "DISPATCHED" || job.state === "ACCEPTED";
}

export class Jobs {
  constructor(api) {
    this.api = api;
    /** When each job in view had progressed last. */
    this.progressed = new Map();
  }

  /** Fetches and shows the list. Returns whether a job has progressed that was in it before. */
  async refresh(address, signal) {
    const path = listPath(address, this.api.now());
    const value = await this.api.get(path, signal);
    signal.throwIfAborted();

    const jobs = value.jobs.slice(0, 100);
    setHidden(byId("jobs-empty"), jobs.length > 0);
    setText(byId("jobs-empty"), "No job matches.");
    reconcile(byId("jobs"), jobs, {
      key: (job) => job.jobId,
      create: () => copyOf("job-template"),
      update: (element, job) => this.show(element, job, address),
      fallback: byId("jobs-title"),
    });

    byId("newest").href = link(address, { cursor: "" });
    setHidden(byId("newest"), !address.cursor);
    byId("older").href = link(address, { cursor: value.next ?? "" });
    setHidden(byId("older"), !value.next);
    return this.hasProgressed(jobs);
  }

  hasProgressed(jobs) {
    const before = this.progressed;
    this.progressed = new Map(jobs.map((job) => [job.jobId, job.progressAt]));
    return jobs.some((job) => before.has(job.jobId) && before.get(job.jobId) !== job.progressAt);
  }

  /** Shows that another list is on its way, because the one in view does not match the filters any longer. */
  clear() {
    byId("jobs").replaceChildren();
    setHidden(byId("jobs-empty"), false);
    setText(byId("jobs-empty"), "Loading the jobs.");
    setHidden(byId("newest"), true);
    setHidden(byId("older"), true);
  }

  show(element, job, address) {
    const isChosen = job.jobId === address.job;
    element.classList.toggle("chosen", isChosen);
    const anchor = element.querySelector("a");
    setAttribute(anchor, "href", link(address, { job: job.jobId }));
    setAttribute(anchor, "aria-current", isChosen ? "true" : null);
    setText(anchor, nameOf(job));
    showState(element.querySelector(".state"), job.state, STATES);
    setText(element.querySelector(".about"), about(job));
    showMeter(element.querySelector(".meter"), job);
    setText(element.querySelector(".message"), job.message ?? "");
  }
}

function about(job) {
  const parts = [clock(job.dispatchedAt), job.kind, job.worker, job.jobId.slice(0, 8)];
  // The API counts from 0, as Step Functions does.
  if (job.attempt > 0) parts.push(`attempt ${job.attempt + 1}`);
  if (job.endedAt) parts.push(`took ${duration(Date.parse(job.endedAt) - Date.parse(job.dispatchedAt))}`);
  return parts.filter(Boolean).join(" · ");
}

export function showState(element, state, names) {
  setAttribute(element, "data-state", state);
  setText(element, names[state] ?? state);
}

/** The bar of a job that says how far it is. A job that succeeded needs none. */
export function showMeter(element, job) {
  const percent = typeof job.percent === "number" ? Math.min(100, Math.max(0, job.percent)) : null;
  setHidden(element, percent === null || job.state === "SUCCEEDED");
  if (percent === null) return;
  const bar = element.querySelector("progress");
  if (bar.value !== percent) bar.value = percent;
  setAttribute(bar, "aria-label", `Progress of ${nameOf(job)}`);
  setText(element.querySelector(".percent"), `${Math.floor(percent)} %`);
}

/** Keeps the form of the filters and the address in step. `onChange` gets the changes of the address. */
export class Filters {
  constructor(onChange) {
    this.form = byId("filters");
    this.form.addEventListener("change", () => onChange(this.read()));
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  read() {
    const { state, within, from, to } = this.form.elements;
    const isBetween = within.value === "between";
    setHidden(byId("between"), !isBetween);
    return {
      state: state.value,
      within: within.value,
      from: isBetween ? utc(from.value) : "",
      to: isBetween ? utc(to.value) : "",
      cursor: "",
    };
  }

  show(address) {
    const { state, within, from, to } = this.form.elements;
    state.value = address.state;
    within.value = address.within || (address.from || address.to ? "between" : "");
    setHidden(byId("between"), within.value !== "between");
    from.value = local(address.from);
    to.value = local(address.to);
  }
}

function utc(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

function local(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
