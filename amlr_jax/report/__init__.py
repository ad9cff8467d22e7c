"""report.html: runs side by side in one file that opens offline."""
