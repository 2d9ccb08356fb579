"""From a results folder to data frames."""
