// What the browser tests share: a Chromium, a stand-in for the API, and a page that is signed in.

import { after, before, test as nodeTest } from "node:test";

import { Chromium, program } from "../chromium.mjs";
import { StandIn } from "./stand_in.mjs";

// CI sets the variable, so that there the tests cannot be left out.
if (!program && process.env.POSTERN_REQUIRE_CHROMIUM) throw new Error("Chromium is not installed");

let chromium;

before(async () => {
  if (program) chromium = await Chromium.start();
});

after(() => chromium?.stop());

/** A test with a stand-in of its own. `body` gets it, and a function that opens a signed-in page. */
export function test(name, body) {
  nodeTest(name, { skip: program ? false : "Chromium is not installed", timeout: 180_000 }, async () => {
    const standIn = await StandIn.start();
    const pages = [];
    const open = async (user = "all1", { query = "", script = "" } = {}) => {
      const page = await chromium.open(standIn.url + query, script);
      pages.push(page);
      if (user) await signIn(page, user);
      return page;
    };
    try {
      await body({ standIn, open });
      const faults = pages.flatMap((page) => page.faults);
      if (faults.length) throw new Error(`the page had faults:\n${faults.join("\n")}`);
    } finally {
      for (const page of pages) await page.close();
      standIn.stop();
    }
  });
}

export async function signIn(page, user) {
  await page.click("#sign-in");
  await page.click(`#${user}`);
  await page.until("document.querySelector('#freshness[data-kind=live], #freshness[data-kind=polling]')");
}

/** Waits until the line at the top says that the page is fresh in this way. */
export async function untilFresh(page, kind) {
  await page.until(`document.querySelector("#freshness").dataset.kind === "${kind}"`);
}

/** The selector of a job in the list. */
export function row(jobId, rest = "") {
  return `#jobs > [data-key="${jobId}"] ${rest}`.trim();
}
