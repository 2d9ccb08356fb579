"""A report that is made again whenever results change: on disk, and in a browser."""
