/**
 * The details of one job: its facts, timeline, log, input and result, and what an operator or an approver can do with it.
 */

import { link, readAddress } from "./address.js";
import { Problem } from "./api.js";
import { byId, reconcile, setAttribute, setHidden, setLines, setText } from "./dom.js";
import { STATES, isOpen, nameOf, showMeter, showState } from "./jobs.js";
import { clock, duration, indentJson, visible } from "./text.js";

const EVENTS = {
  dispatched: "Dispatched",
  accepted: "Accepted",
  retried: "Retried",
  resumed: "Resumed",
  progress: "Progress",
  done: "Done",
};

export class JobView {
  /** `say` announces a text. `ask` opens the dialog for an action. */
  constructor(api, { say, ask, roles }) {
    Object.assign(this, { api, say, ask, roles });
    this.job = null;
    byId("stop").addEventListener("click", () => this.stop());
    byId("approve").addEventListener("click", () => this.decide("approve", "Approve", "Approved"));
    byId("reject").addEventListener("click", () => this.decide("reject", "Reject", "Rejected"));
    for (const name of ["input", "result"]) byId(name).addEventListener("toggle", () => this.load(name));
  }

  /** Empties the view for another job. */
  choose(jobId) {
    this.jobId = jobId;
    this.job = null;
    setText(byId("job-title"), "Job");
    setText(byId("job-empty"), "Loading the job.");
    setHidden(byId("job-empty"), false);
    setHidden(byId("job-body"), true);
    byId("log").replaceChildren();
    for (const name of ["data", "input", "result"]) {
      byId(name).open = false;
      byId(name).querySelector("pre").textContent = "";
    }
  }

  /** Fetches and shows the job. */
  async refresh(signal) {
    const path = `jobs/${encodeURIComponent(this.jobId)}`;
    let answers;
    try {
      answers = await Promise.all([path, `${path}/timeline`, `${path}/log`].map((each) => this.api.get(each, signal)));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      signal.throwIfAborted();
      setText(byId("job-empty"), "There is no such job. It may have been forgotten, because jobs are kept for a limited time.");
      setHidden(byId("job-empty"), false);
      setHidden(byId("job-body"), true);
      return;
    }
    signal.throwIfAborted();

    const [job, timeline, log] = answers;
    this.announce(job);
    this.job = job;
    this.show(job);
    this.showTimeline(timeline.events);
    setHidden(byId("log-empty"), log.lines.length > 0);
    setHidden(byId("log"), log.lines.length === 0);
    setLines(byId("log"), log.lines.slice(-500));
  }

  /** A change of the state is announced to screen readers. Progress is not: it would talk without an end. */
  announce(job) {
    if (!this.job || this.job.state === job.state) return;
    this.say(`${nameOf(job)}: ${STATES[job.state] ?? job.state}`);
    // What was read before the end is not the result.
    if (byId("result").open) this.load("result", job);
  }

  show(job) {
    setHidden(byId("job-empty"), true);
    setHidden(byId("job-body"), false);
    setText(byId("job-title"), nameOf(job));
    showState(byId("job-state"), job.state, STATES);
    setText(byId("job-message"), job.message ?? "");
    showMeter(byId("job-bar"), job);

    const roles = this.roles();
    setHidden(byId("stop"), !isOpen(job) || !roles.includes("operator"));
    const canDecide = isOpen(job) && job.approval && roles.includes("approver");
    setHidden(byId("approve"), !canDecide);
    setHidden(byId("reject"), !canDecide);
    setHidden(byId("job-actions"), byId("stop").hidden && byId("approve").hidden);

    const error = [job.error, job.cause].filter(Boolean).join(": ");
    setText(byId("job-error"), error);
    setHidden(byId("job-error"), !error);
    showFacts(byId("job-facts"), factsOf(job));

    const hasData = job.data !== null && job.data !== undefined;
    setHidden(byId("data"), !hasData);
    if (hasData) showText(byId("data"), typeof job.data === "string" ? job.data : JSON.stringify(job.data, null, 2));
  }

  /** What happened to this attempt and to the others. What happened to another attempt links to it. */
  showTimeline(events) {
    reconcile(byId("timeline"), events.slice(-200), {
      key: (event) => `${event.jobId} ${event.at} ${event.type}`,
      create: () => {
        const item = document.createElement("li");
        item.append(...["time", "span", "a"].map((name) => document.createElement(name)));
        return item;
      },
      update: (item, event) => {
        const [time, text, attempt] = item.children;
        setAttribute(time, "datetime", event.at);
        setText(time, clock(event.at, this.api.now()));
        setText(text, [EVENTS[event.type] ?? event.type, detailOf(event.detail)].filter(Boolean).join(": "));

        setHidden(attempt, event.jobId === this.jobId);
        setText(attempt, `of attempt ${event.attempt}`);
        setAttribute(attempt, "href", link(readAddress(), { job: event.jobId }));
      },
    });
  }

  /** Reads the input or the result, when somebody opens it: both come from the history of Step Functions. */
  async load(name, job = this.job) {
    const details = byId(name);
    if (!details.open || !job) return;
    if (name === "result" && isOpen(job)) return showText(details, "The job has not ended.");
    showText(details, "Loading.");
    try {
      const text = await this.api.text(`jobs/${encodeURIComponent(job.jobId)}/${name}`);
      if (this.jobId === job.jobId) showText(details, indentJson(text));
    } catch (error) {
      if (this.jobId === job.jobId) showText(details, error.message);
    }
  }

  stop() {
    const job = this.job;
    this.ask({
      title: `Stop ${nameOf(job)}?`,
      text: "Its execution is stopped, and the worker is told to end the job.",
      label: "Reason",
      confirm: "Stop the job",
      send: (reason) => this.api.send("POST", `jobs/${encodeURIComponent(job.jobId)}/stop`, { reason }),
      done: `Asked to stop ${nameOf(job)}.`,
    });
  }

  decide(action, verb, done) {
    const job = this.job;
    this.ask({
      title: `${verb} ${nameOf(job)}?`,
      text: "The execution goes on with this decision. It cannot be taken back.",
      label: "Comment",
      confirm: verb,
      send: (comment) => this.api.send("POST", `jobs/${encodeURIComponent(job.jobId)}/${action}`, { comment }),
      done: `${done}: ${nameOf(job)}.`,
    });
  }
}

function detailOf(detail) {
  if (detail === null || detail === undefined) return "";
  return typeof detail === "string" ? detail : JSON.stringify(detail);
}

function factsOf(job) {
  const end = job.endedAt ? `${clock(job.endedAt)}, after ${duration(Date.parse(job.endedAt) - Date.parse(job.dispatchedAt))}` : null;
  return [
    ["Job", job.jobId],
    ["Kind", job.kind],
    ["Worker", job.worker],
    ["Attempt", attemptOf(job)],
    ["State", job.stateName],
    ["Dispatched", clock(job.dispatchedAt)],
    ["Accepted", job.acceptedAt ? clock(job.acceptedAt) : null],
    ["Ended", end],
    ["Deadline", job.deadline ? clock(job.deadline) : null],
    ["Execution", job.execution],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

/** Step Functions counts retries, and people count attempts. */
function attemptOf(job) {
  if (job.attempt === null || job.attempt === undefined) return null;
  return `${job.attempt + 1}${job.resumed ? ", resumed" : ""}`;
}

/** Fills a description list with pairs of a term and a text. */
export function showFacts(list, facts) {
  const elements = [...list.children];
  facts.flat().forEach((text, n) => {
    const element = elements[n] ?? list.appendChild(document.createElement(n % 2 ? "dd" : "dt"));
    setText(element, text);
  });
  for (const element of elements.slice(facts.length * 2)) element.remove();
}

function showText(details, text) {
  const shown = visible(text);
  const place = details.querySelector("pre");
  if (place.textContent !== shown) place.textContent = shown;
}
