"""From the files of a results folder to a study, whose trials are flagged."""
