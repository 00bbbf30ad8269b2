# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program of tests that prints TAP."""

import subprocess


def run(tests, behind_each=lambda: None):
    """tests: (name, function, arguments), or functions that are named check_...; gives whether all succeeded."""
    tests = [test if isinstance(test, tuple) else (test.__name__[6:].replace("_", " "), test, []) for test in tests]
    succeeded = True
    print(f"1..{len(tests)}")
    for number, (name, function, arguments) in enumerate(tests, 1):
        try:
            function(*arguments)
            print(f"ok {number} {name}", flush=True)
        except (AssertionError, subprocess.CalledProcessError) as error:
            succeeded = False
            print(f"not ok {number} {name}\n# {error!r}", flush=True)
        behind_each()
    return succeeded
