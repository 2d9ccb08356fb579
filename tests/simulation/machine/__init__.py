"""What the simulated processes run on: time, threads, files, hosts, and the edges of our code to
them."""
