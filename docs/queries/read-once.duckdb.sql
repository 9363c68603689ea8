-- Reads each record once, ordered by offset within its partition. The columns are those of CSV_COLUMNS and the four that
-- CSV_METADATA_COLUMNS=true adds, with CSV_HEADER=false. It reads both layouts (CSV_KEY_LAYOUT). Replace the bucket, the
-- prefix and the columns with yours.
-- new_line is set because DuckDB 2.0 would otherwise detect it from the first line break, even from one in quotes.
SELECT * REPLACE (CAST(nullif(kafka_timestamp, '') AS BIGINT) AS kafka_timestamp)
FROM read_csv('s3://BUCKET/PREFIX/customer/**/*.csv', hive_partitioning = false,
              auto_detect = false, header = false, delim = ',', quote = '"', escape = '"', new_line = '\n', nullstr = '\N',
              columns = {'id': 'VARCHAR', 'name': 'VARCHAR', 'email': 'VARCHAR', 'city': 'VARCHAR',
                         'balance': 'VARCHAR', 'since': 'VARCHAR', 'note': 'VARCHAR',
                         'kafka_topic': 'VARCHAR', 'kafka_partition': 'INTEGER',
                         'kafka_offset': 'BIGINT', 'kafka_timestamp': 'VARCHAR'})
QUALIFY row_number() OVER (PARTITION BY kafka_topic, kafka_partition, kafka_offset) = 1
ORDER BY kafka_topic, kafka_partition, kafka_offset;
