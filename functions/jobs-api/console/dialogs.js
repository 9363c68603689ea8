/** The two dialogs: the start of a job, and the question before an action. Each stays open until its action succeeded. */

import { byId, setText } from "./dom.js";

/** Opens a dialog and runs `send` at each submission, until it succeeds or the dialog is closed. */
class Dialog {
  constructor(id) {
    this.dialog = byId(`${id}-dialog`);
    this.form = this.dialog.querySelector("form");
    this.error = byId(`${id}-error`);
    this.dialog.querySelector("[data-close]").addEventListener("click", () => this.dialog.close());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  open(send) {
    this.send = send;
    setText(this.error, "");
    this.dialog.showModal();
  }

  async submit() {
    const button = this.form.querySelector("[type=submit]");
    if (button.disabled) return;
    button.disabled = true;
    setText(this.error, "");
    try {
      await this.send();
      this.dialog.close();
    } catch (error) {
      setText(this.error, error.message);
    } finally {
      button.disabled = false;
    }
  }
}

export class AskDialog extends Dialog {
  constructor() {
    super("ask");
  }

  /** `send` gets the answer, and `onDone` is called after it succeeded. */
  ask({ title, text, label, confirm, send }, onDone) {
    setText(byId("ask-title"), title);
    setText(byId("ask-text"), text);
    setText(byId("ask-label"), label);
    setText(byId("ask-confirm"), confirm);
    const { answer } = this.form.elements;
    answer.value = "";
    this.open(async () => {
      await send(answer.value);
      onDone();
    });
  }
}

export class StartDialog extends Dialog {
  constructor(api) {
    super("start");
    this.api = api;
  }

  /** `onDone` gets the name of the execution that was started. */
  async start(onDone) {
    // The key is the same for all submissions of one opening: a repetition after a lost answer starts nothing twice.
    let key = crypto.randomUUID();
    let sent = null;
    const { machine, input } = this.form.elements;
    this.open(async () => {
      check(input.value);
      // The input goes out as it was typed: written anew, long numbers would be rounded.
      const body = `{"machine":${JSON.stringify(machine.value)},"input":${input.value}}`;
      if (sent !== null && sent !== body) key = crypto.randomUUID();
      sent = body;
      onDone((await this.api.send("POST", "jobs", body, { "Idempotency-Key": key })).name);
    });
    await this.loadMachines(machine);
  }

  async loadMachines(select) {
    try {
      const { machines } = await this.api.get("machines");
      const chosen = select.value;
      select.replaceChildren(...machines.map(({ name }) => new Option(name, name)));
      if (machines.some(({ name }) => name === chosen)) select.value = chosen;
    } catch (error) {
      setText(this.error, error.message);
    }
  }
}

function check(text) {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new Error(`The input is not JSON: ${error.message}`);
  }
}
