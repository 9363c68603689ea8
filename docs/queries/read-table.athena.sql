-- The table that compaction writes, for Athena: each partition's text file under _symlinks/ names the objects of an hour.
-- Replace the bucket, the prefix and the columns with yours. We have not run this on Athena.
CREATE EXTERNAL TABLE customer (
  id string, name string, email string, city string, balance decimal(18, 2), since date, note string,
  kafka_topic string, kafka_partition bigint, kafka_offset bigint, kafka_timestamp timestamp
)
PARTITIONED BY (hour string)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://BUCKET/PREFIX/tables/customer/_symlinks/';

-- After new hours have been compacted:
MSCK REPAIR TABLE customer;
