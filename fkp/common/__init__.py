"""What every room may use: files, addresses of storage, HTML, ports, and what Ray keeps to itself."""
