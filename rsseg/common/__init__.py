"""What every room uses: files, configurations, messages, devices, processes."""
