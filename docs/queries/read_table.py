"""Reads the table that compaction writes with pyarrow, by the manifests' lists.

    python3 read_table.py s3://BUCKET PREFIX/tables/customer

Each record is in the table once: nothing has to remove doubled rows.
"""

import json
import sys

from pyarrow import Table, dataset, fs


def read(bucket: str, table: str) -> Table:
    """The table under the key `table` of a bucket, or of a folder with the same objects."""
    filesystem, root = fs.FileSystem.from_uri(bucket)
    files = []
    for manifest in filesystem.get_file_info(fs.FileSelector(f"{root}/{table}/_manifests")):
        with filesystem.open_input_stream(manifest.path) as stream:
            files += [f"{root}/{file['key']}" for file in json.load(stream)["files"]]
    return dataset.dataset(files, format="parquet", filesystem=filesystem).to_table()


if __name__ == "__main__":
    print(read(*sys.argv[1:]))
