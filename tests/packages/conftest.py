"""The packages beside this file are installed and tested by the tests here; they are not part of fttool's own tests."""

collect_ignore = ["fttool-acme"]
