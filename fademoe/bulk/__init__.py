"""Rows in bulk: Arrow tables, Parquet files, a directory of them with its certificates."""
