// The conversions in Node. JSON.parse converts numbers, so 5.00 becomes 5, which is less work than keeping the digits.
import { writeFileSync } from "node:fs";

const columns = ["id", "name", "email", "city", "balance", "since", "note"];
const special = /[",\n\r]/;

// Stands in for S3: takes an object's bytes, and writes them to the folder DUMP if it is set.
function put(name, body) {
  if (process.env.DUMP) writeFileSync(`${process.env.DUMP}/${name}`, body);
}

function field(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : String(value);
  return special.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function json(event) {
  for (const [partition, records] of Object.entries(event.records)) {
    const rows = [];
    for (const { value } of records) {
      if (value === null || value === undefined) continue;
      const fields = JSON.parse(Buffer.from(value, "base64").toString());
      rows.push(columns.map((column) => field(fields[column])).join(","));
    }
    put(partition, Buffer.from(rows.join("\n") + "\n"));
  }
  return { batchItemFailures: [] };
}

export function lines(event) {
  for (const [partition, records] of Object.entries(event.records)) {
    const values = records.map(({ value }) => Buffer.from(value, "base64").toString());
    put(partition, Buffer.from(values.join("\n") + "\n"));
  }
  return { batchItemFailures: [] };
}
