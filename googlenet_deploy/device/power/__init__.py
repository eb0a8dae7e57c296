"""Power meters behind one protocol, and energy integrated over a timed window, with its uncertainty."""
