-- Reads each record once, ordered by offset within its partition. The columns are those of CSV_COLUMNS and the four that
-- CSV_METADATA_COLUMNS=true adds, with CSV_HEADER=false. CSV_LINE_BREAKS=space is required because Athena ends a row at
-- every line break. The escape character is one that text does not contain: RFC 4180 has none, and the default, a
-- backslash, would remove the backslashes from your data. Replace the bucket, the prefix and the columns with yours.
CREATE EXTERNAL TABLE customer_objects (
  id string, name string, email string, city string, balance string, since string, note string,
  kafka_topic string, kafka_partition string, kafka_offset string, kafka_timestamp string
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'
WITH SERDEPROPERTIES ('separatorChar' = ',', 'quoteChar' = '"', 'escapeChar' = '\u0001')
STORED AS TEXTFILE
LOCATION 's3://BUCKET/PREFIX/customer/';

CREATE OR REPLACE VIEW customer AS
SELECT id, name, email, city, balance, since, note, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp
FROM (
  SELECT id, name, email, city, balance, since, note, kafka_topic,
         CAST(kafka_partition AS integer) AS kafka_partition,
         CAST(kafka_offset AS bigint) AS kafka_offset,
         TRY_CAST(kafka_timestamp AS bigint) AS kafka_timestamp,
         row_number() OVER (PARTITION BY kafka_topic, kafka_partition, kafka_offset ORDER BY "$path") AS time
  FROM customer_objects
)
WHERE time = 1;

SELECT * FROM customer ORDER BY kafka_topic, kafka_partition, kafka_offset;
