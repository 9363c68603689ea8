-- Reads the table that compaction writes, by the manifests' lists. Each record is in it once: no query has to remove
-- doubled rows. Replace the bucket and the prefix with yours.
SET VARIABLE files = (
    SELECT list('s3://BUCKET/' || file.key ORDER BY file.hour, file.first)
    FROM (SELECT unnest(files) AS file FROM read_json('s3://BUCKET/PREFIX/tables/customer/_manifests/*.json'))
);
SELECT *
FROM read_parquet(getvariable('files'), hive_partitioning = false)
ORDER BY kafka_partition, kafka_offset;
