"""The studies that come with the project, one file each."""
