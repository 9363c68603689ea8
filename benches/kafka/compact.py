"""Compares compaction with DuckDB and pyarrow, which remove doubled rows and sort them: the same objects in, one Parquet
object out. docs/kafka/bench.md explains the result.

    cargo build --release -p postern-kafka-bench
    python3 benches/kafka/compact.py [--rows 1000000] [--python PYTHON_WITH_DUCKDB_AND_PYARROW] [--binary FILE]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = [
    *("id", "name", "city", "balance", "since", "note"),
    *("kafka_topic", "kafka_partition", "kafka_offset", "kafka_timestamp"),
]
DUCKDB = """
import duckdb, sys
folder, out = sys.argv[1:]
duckdb.sql("SET enable_progress_bar = false")
duckdb.sql("SET preserve_insertion_order = false")
columns = {name: "VARCHAR" for name in %r}
columns |= {"id": "BIGINT", "balance": "DECIMAL(18,2)", "since": "DATE"}
columns |= {name: "BIGINT" for name in ("kafka_partition", "kafka_offset", "kafka_timestamp")}
duckdb.sql(f'''COPY (SELECT DISTINCT ON (kafka_offset) * FROM read_csv('{folder}/t/0/*.csv', auto_detect = false,
    header = false, delim = ',', quote = '"', escape = '"', new_line = '\\\\n', columns = {columns}) ORDER BY kafka_offset)
    TO '{out}' (FORMAT parquet, COMPRESSION snappy)''')
print(duckdb.sql(f"SELECT count(*) FROM '{out}'").fetchall()[0][0])
""" % (NAMES,)
PYARROW = """
import glob, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv as csv, pyarrow.parquet as pq
folder, out = sys.argv[1:]
types = {"id": pa.int64(), "balance": pa.decimal128(18, 2), "since": pa.date32(), "kafka_partition": pa.int64(),
         "kafka_offset": pa.int64(), "kafka_timestamp": pa.int64()}
read = csv.ReadOptions(column_names=%r)
convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False)
parse = csv.ParseOptions(newlines_in_values=True)
tables = [csv.read_csv(file, read, parse, convert) for file in sorted(glob.glob(folder + "/t/0/*.csv"))]
table = pa.concat_tables(tables).sort_by("kafka_offset")
offsets = table["kafka_offset"].combine_chunks()
first = pc.not_equal(offsets[1:], offsets[:-1])
table = table.filter(pa.concat_arrays([pa.array([True]), first]))
pq.write_table(table, out, compression="snappy")
print(table.num_rows)
""" % (NAMES,)


def measure(command: list) -> tuple:
    """The wall time, the CPU time and the peak memory of a command, and the number of rows that it printed."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    rows = int(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, rows


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--python", default=sys.executable)
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "../../target"))
    options.add_argument("--binary", type=Path, default=target / "release/postern-compact-bench")
    options = options.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.binary, "generate", folder, str(options.rows)], check=True)
        given = sum(file.stat().st_size for file in Path(folder).rglob("*.csv"))
        out = Path(folder) / "out.parquet"
        candidates = {
            "compact": [options.binary, "compact", folder],
            "DuckDB": [options.python, "-c", DUCKDB, folder, str(out)],
            "pyarrow": [options.python, "-c", PYARROW, folder, str(out)],
        }
        print(f"{options.rows:,} rows in {given / 1e6:,.0f} MB of CSV")
        print("| candidate | time | CPU | peak memory | Parquet |\n|---|---|---|---|---|")
        for name, command in candidates.items():
            wall, cpu, peak, rows = measure(command)
            if rows != options.rows:
                sys.exit(f"{name} wrote {rows} rows, not {options.rows}")
            files = Path(folder).rglob("tables/t/hour=*/*.parquet") if name == "compact" else [out]
            size = sum(file.stat().st_size for file in files)
            print(
                f"| {name} | {wall:.1f} s | {cpu:.1f} s | {peak / 1e6:,.0f} MB | {size / 1e6:,.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
