"""What training writes into a trial's folder."""
