"""The contents of an unpacked bundle, and its self-test on the device."""
