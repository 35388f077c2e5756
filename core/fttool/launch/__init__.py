"""The processes of a run: started, watched, started again, and judged once they have ended.

Read `launching.py` first, then what it is made of: `joining.py` (must anything be started here?), `nodes.py` (several
machines), `worker.py` (a process that was started) and `verdict.py` (what went wrong first).
"""
