"""Download public datasets: a table of sources, a transfer that resumes, and extraction that trusts no archive."""
