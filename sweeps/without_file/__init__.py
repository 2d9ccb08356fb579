"""A sweep or a search that is given on the command line: no definition file is needed."""
