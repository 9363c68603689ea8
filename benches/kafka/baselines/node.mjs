// The conversion in Node. JSON.parse makes numbers of number tokens: 5.00 becomes 5, less work than is asked for.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const columns = ["id", "name", "email", "city", "balance", "since", "note"];
const special = /[",\n\r]/;

function field(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : String(value);
  return special.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const conversions = {
  json(event) {
    const outputs = {};
    for (const [partition, records] of Object.entries(JSON.parse(event).records)) {
      const rows = [];
      for (const { value } of records) {
        if (value === null || value === undefined) continue;
        const fields = JSON.parse(Buffer.from(value, "base64").toString());
        rows.push(columns.map((column) => field(fields[column])).join(","));
      }
      outputs[partition] = Buffer.from(rows.join("\n") + "\n");
    }
    return outputs;
  },
  lines(event) {
    const outputs = {};
    for (const [partition, records] of Object.entries(JSON.parse(event).records)) {
      outputs[partition] = Buffer.from(
        records.map(({ value }) => Buffer.from(value, "base64").toString()).join("\n") + "\n",
      );
    }
    return outputs;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [shape, path, repeats, dump] = line.split(" ");
  const event = readFileSync(path);
  const start = process.cpuUsage();
  let outputs;
  for (let time = 0; time < Number(repeats); time += 1) outputs = conversions[shape](event);
  const { user, system } = process.cpuUsage(start);
  if (dump !== "-") for (const [name, output] of Object.entries(outputs)) writeFileSync(`${dump}/${name}`, output);
  console.log(Math.round(((user + system) * 1000) / Number(repeats)));
}
