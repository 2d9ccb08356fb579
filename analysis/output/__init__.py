"""Writing a report: HTML, Markdown, CSV, LaTeX."""
