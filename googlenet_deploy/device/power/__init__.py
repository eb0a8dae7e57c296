"""Power meters with one interface, and energy integrated over a timed window, with its uncertainty."""
