"""The demo: a controller and five agents on this machine, a trial's enrolments, and everything that can go wrong."""
