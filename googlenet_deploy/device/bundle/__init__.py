"""What an unpacked bundle holds, and the test of it on the device."""
