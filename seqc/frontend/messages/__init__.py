"""What the frontend says: codes, the collector of problems, and the limits that it keeps."""
