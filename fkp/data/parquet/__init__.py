"""A labelled set packed into Parquet, in a folder or a bucket: written, read, streamed."""
