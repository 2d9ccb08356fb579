"""The sweeps and searches that come with the project, a file each; found by the file's name."""
