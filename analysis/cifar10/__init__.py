"""What only the study that comes with the project needs: the reported figures and
the sections that set results beside them."""
