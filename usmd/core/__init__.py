"""The pure core: events in, commands out. Knows no clock, loop, network, disk or thread."""
