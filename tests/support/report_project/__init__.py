"""A Django project for the tests of `bridge_report` and of the system checks; each use is a process of its own."""
