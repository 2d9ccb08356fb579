"""Run: what a task is given to log its metrics, save its state and be stopped, whatever is killed
when."""
