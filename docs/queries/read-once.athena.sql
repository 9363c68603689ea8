-- Every record once, in the order of its partition. Columns: the ones of CSV_COLUMNS, then the four that
-- CSV_METADATA_COLUMNS=true adds; CSV_HEADER=false, and CSV_LINE_BREAKS=space, because Athena takes every line break for
-- a row's end. The escape character is one that no text holds: RFC 4180 has none, and the default, a backslash, would
-- eat the backslashes of your data. Put your bucket, your prefix and your columns.
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
