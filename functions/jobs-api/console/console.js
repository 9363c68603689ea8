/**
 * The console: signs in, shows what the address asks for, and keeps it true. It only joins the parts. What it shows comes
 * from the API alone, and the line at the top says how fresh it is.
 */

import { link, readAddress } from "./address.js";
import { Api, SignedOut } from "./api.js";
import { AskDialog, StartDialog } from "./dialogs.js";
import { byId, setAttribute, setHidden, setText } from "./dom.js";
import { EVERY, Refresher, backoff } from "./freshness.js";
import { JobView } from "./job.js";
import { Filters, Jobs } from "./jobs.js";
import { Live } from "./live.js";
import { Session } from "./signin.js";
import { clock } from "./text.js";
import { Workers } from "./workers.js";

class Console {
  constructor(config, session) {
    this.config = config;
    this.session = session;
    this.api = new Api(session);
    this.who = null;
    this.address = null;
    const roles = () => this.who?.roles ?? [];

    this.jobs = new Jobs(this.api);
    this.workers = new Workers(this.api, { roles, act: (...action) => this.act(...action) });
    this.job = new JobView(this.api, { roles, say, ask: (question) => this.ask(question) });
    this.filters = new Filters((changes) => this.go(link(this.address, changes)));
    this.askDialog = new AskDialog();
    this.startDialog = new StartDialog(this.api);
    this.refresher = new Refresher({
      refresh: (signal) => this.refresh(signal),
      onStatus: showStatus,
      onInterruption: () => this.live?.open(),
      onDeadLive: () => this.live?.open(),
      onSignedOut: (error) => this.leave(error.message),
    });
    this.live = config.live ? this.createLive() : null;
  }

  createLive() {
    return new Live({
      url: this.config.live,
      ticket: () => this.api.send("POST", "live-ticket", {}),
      onHint: () => this.refresher.hint(),
      onChange: () => this.updateLive(),
    });
  }

  start() {
    document.addEventListener("click", (event) => this.followLink(event));
    addEventListener("popstate", () => this.show());
    byId("sign-out").addEventListener("click", () => this.leave("You have signed out."));
    byId("start").addEventListener("click", () => this.startDialog.start((name) => this.started(name)));
    setHidden(byId("views"), false);
    setHidden(byId("sign-out"), false);
    this.show();
    this.refresher.start();
  }

  // ---- The address ---------------------------------------------------------------------------------

  /** Follows links within the page without loading it again. Other clicks, such as for a new tab, are the browser's. */
  followLink(event) {
    const anchor = event.target.closest?.('a[href^="?"]');
    if (!anchor || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    this.go(anchor.getAttribute("href"));
  }

  go(address) {
    history.pushState(null, "", address);
    const before = this.address;
    this.show();
    moveFocus(before, this.address);
  }

  /** Shows the frame of what the address asks for. The refresher fills it. */
  show() {
    const before = this.address;
    const address = (this.address = readAddress());
    const isWorkers = address.view === "workers";
    setHidden(byId("jobs-view"), isWorkers);
    setHidden(byId("workers-view"), !isWorkers);
    setHidden(byId("job-view"), isWorkers || !address.job);
    document.body.toggleAttribute("data-job", Boolean(!isWorkers && address.job));
    document.title = isWorkers ? "Workers · Postern" : "Jobs · Postern";
    for (const anchor of document.querySelectorAll("[data-view]")) {
      const isCurrent = (anchor.dataset.view === "workers") === isWorkers;
      setAttribute(anchor, "aria-current", isCurrent ? "page" : null);
    }

    this.filters.show(address);
    byId("job-close").href = link(address, { job: "" });
    if (before && link(before, { job: "", view: "" }) !== link(address, { job: "", view: "" })) this.jobs.clear();
    if (address.job && address.job !== before?.job) this.job.choose(address.job);
    this.updateLive();
    if (before) this.refresher.now();
  }

  // ---- The truth -----------------------------------------------------------------------------------

  /** Fetches and shows all that is in view. Returns whether a job in the list has progressed. */
  async refresh(signal) {
    if (!this.who) await this.introduce(signal);
    if (this.address.view === "workers") return this.workers.refresh(signal);
    const job = this.address.job ? this.job.refresh(signal) : null;
    const [hasProgressed] = await Promise.all([this.jobs.refresh(this.address, signal), job]);
    return hasProgressed;
  }

  async introduce(signal) {
    const value = await this.api.get("session", signal);
    this.who = value;
    setText(byId("who"), `${value.tenant} · ${value.roles.join(", ")}`);
    setHidden(byId("who"), false);
    setHidden(byId("start"), !value.roles.includes("operator"));
    this.live?.open();
  }

  /** Nothing announces a change of a worker, so that view polls whatever the connection is. */
  updateLive() {
    this.refresher.setLive(Boolean(this.live?.isOpen) && this.address?.view !== "workers");
  }

  // ---- Actions -------------------------------------------------------------------------------------

  ask(question) {
    this.askDialog.ask(question, () => this.acted(question.done));
  }

  /** Sends a command that needs no question. Returns whether it succeeded. */
  async act(send, done) {
    try {
      await send();
    } catch (error) {
      if (error instanceof SignedOut) this.leave(error.message);
      else setText(byId("alert"), error.message);
      return false;
    }
    this.acted(done);
    return true;
  }

  acted(done) {
    say(done);
    this.refresher.expect();
  }

  started(name) {
    this.acted(`Started ${name}. Its jobs appear here when they are dispatched.`);
  }

  /** Ends the session in this page. Nothing of the tenant stays in the document. */
  leave(reason) {
    this.session.drop();
    this.refresher.stop();
    this.live?.close();
    sessionStorage.setItem("postern.reason", reason);
    location.reload();
  }
}

/** After a click, the focus is where the new content is. */
function moveFocus(before, after) {
  if (before.view !== after.view) byId(after.view === "workers" ? "workers-title" : "jobs-title").focus();
  else if (after.job && before.job !== after.job) byId("job-title").focus();
  else if (before.job && !after.job) (document.querySelector(`[data-key="${CSS.escape(before.job)}"] a`) ?? byId("jobs-title")).focus();
  else if (before.cursor !== after.cursor) byId("jobs-title").focus();
}

function say(text) {
  setText(byId("alert"), "");
  setText(byId("notice"), text);
}

function showStatus(status) {
  setAttribute(byId("freshness"), "data-kind", status.kind);
  setText(byId("freshness-text"), describe(status));
  document.body.toggleAttribute("data-stale", status.kind === "failing" || status.kind === "checking");
}

function describe({ kind, since, hasData, isRefused, reason }) {
  const seconds = EVERY / 1000;
  switch (kind) {
    case "live":
      return `Live, and checked every ${seconds} s`;
    case "polling":
      return `Polling every ${seconds} s`;
    case "checking":
      return `Checking what changed since ${clock(since)}`;
    case "failing":
      if (isRefused) return `The API refuses this view. ${reason}`;
      return hasData ? `No answer since ${clock(since)}, this is from then. ${reason}` : `No answer since ${clock(since)}. ${reason}`;
    default:
      return "Connecting";
  }
}

// ---- The start -------------------------------------------------------------------------------------

/** The configuration is the first that is asked of the API, so an API that is down shows here. */
async function loadConfig() {
  const startedAt = Date.now();
  for (let failures = 1; ; failures += 1) {
    try {
      const response = await fetch("config.json", { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(10_000) });
      if (response.ok) return await response.json();
      showStatus({ kind: "failing", since: startedAt, reason: `The API answered ${response.status}` });
    } catch {
      showStatus({ kind: "failing", since: startedAt, reason: "The API cannot be reached" });
    }
    await new Promise((resolve) => setTimeout(resolve, backoff(failures, 0, Math.random())));
  }
}

function showSignIn(session, reason) {
  setHidden(byId("signed-out"), false);
  setHidden(byId("freshness"), true);
  setText(byId("signed-out-reason"), reason);
  byId("sign-in").addEventListener("click", () =>
    session.begin().catch((error) => setText(byId("signed-out-reason"), error.message)),
  );
}

async function main() {
  const config = await loadConfig();
  if (config.auth !== "jwt") {
    setHidden(byId("sign-in"), true);
    const explanation = "This API takes requests that are signed with AWS credentials (ApiAuth=iam), which a page has not. Deploy with ApiAuth=jwt to use this page.";
    return showSignIn(null, explanation);
  }

  const session = new Session(config);
  let reason = sessionStorage.getItem("postern.reason") ?? "See the jobs of your tenant, live.";
  sessionStorage.removeItem("postern.reason");
  if (Session.isReturn(location.search)) {
    try {
      await session.finish(location.search);
    } catch (error) {
      reason = error.message;
    }
  }
  if (!session.isSignedIn) return showSignIn(session, reason);
  new Console(config, session).start();
}

await main();
