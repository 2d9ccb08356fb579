"""What a report is made from: launches, their trials and predictions, as data frames."""
