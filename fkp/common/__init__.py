"""What every room may use: files, addresses of storage, HTML, ports."""
