-- Every record once, in the order of its partition. Columns: the ones of CSV_COLUMNS, then the four that
-- CSV_METADATA_COLUMNS=true adds; CSV_HEADER=false. Put your bucket, your prefix and your columns.
-- new_line is said because DuckDB 2.0 otherwise takes the first line break for the rows' end, also one in quotes.
SELECT *
FROM read_csv('s3://BUCKET/PREFIX/customer/*/*.csv',
              auto_detect = false, header = false, delim = ',', quote = '"', escape = '"', new_line = '\n', nullstr = '\N',
              columns = {'id': 'VARCHAR', 'name': 'VARCHAR', 'email': 'VARCHAR', 'city': 'VARCHAR',
                         'balance': 'VARCHAR', 'since': 'VARCHAR', 'note': 'VARCHAR',
                         'kafka_topic': 'VARCHAR', 'kafka_partition': 'INTEGER',
                         'kafka_offset': 'BIGINT', 'kafka_timestamp': 'BIGINT'})
QUALIFY row_number() OVER (PARTITION BY kafka_topic, kafka_partition, kafka_offset) = 1
ORDER BY kafka_topic, kafka_partition, kafka_offset;
